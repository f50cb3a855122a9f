"""A native model from elsewhere, under the trainer."""

from collections.abc import Callable
from typing import Any

from unrolled.training.module import Module


def reduction_of(loss: Any) -> str:
    """What a loss makes of a minibatch: ``"sum"`` of one that says so, else ``"mean"``.

    Example:
        >>> reduction_of(abs)
        'mean'
    """
    return "sum" if getattr(loss, "reduction", None) == "sum" else "mean"


class NativeModel(Module):
    """A plain model of the framework, with the loss and the optimizer to train it by.

    (A subclass of `Module` does the same, and can say more.)

    Args:
        net: the native model, called with the inputs of a minibatch.
        loss: ``(y_hat, y) -> losses``, averaged here.
        optimizer: what `configure_optimizers` shall return; None takes plain SGD at ``lr``.
        lr: learning rate of plain SGD.
    """

    lr: float

    def __init__(
        self,
        net: Any,
        loss: Callable[[Any, Any], Any],
        optimizer: Any = None,
        lr: float = 0.1,
    ) -> None:
        super().__init__()
        self.net, self.loss_fn, self.optimizer, self.lr = net, loss, optimizer, lr

    @property
    def reduction(self) -> str:
        return reduction_of(self.loss_fn)

    def loss(self, y_hat: Any, y: Any) -> Any:
        return self.backend.xp.mean(self.loss_fn(y_hat, y))

    def configure_optimizers(self) -> Any:
        return super().configure_optimizers() if self.optimizer is None else self.optimizer
