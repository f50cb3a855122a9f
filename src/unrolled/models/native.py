"""``NativeModel``, framework-free: trains any module of a framework with a loss of your own."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from unrolled.errors import SettingError
from unrolled.training.module import Module


def reduction_of(loss: Any) -> str:
    """Return ``"sum"`` for a loss that says that it is one, else ``"mean"``.

    A loss says so by an attribute ``reduction``, as losses of PyTorch and Keras have it, or by
    an argument of that name: its default, or what a `functools.partial` fills in.
    """
    said = getattr(loss, "reduction", None)
    if said is None and callable(loss):
        try:
            argument = signature(loss).parameters.get("reduction")
        except ValueError:  # a builtin, whose arguments Python does not know
            argument = None
        said = argument and argument.default
    return "sum" if said == "sum" else "mean"


def check_reduction(reduction: str | None, loss: Any) -> str:
    """Return the reduction that was told, or the one of the loss if none was."""
    if reduction not in (None, "mean", "sum"):
        raise SettingError(
            f"reduction is {reduction!r}; it must be 'mean' or 'sum', or None to ask the loss"
        )
    return reduction or reduction_of(loss)


class NativeModel(Module):
    """A plain model of the framework, with the loss and the optimizer to train it by.

    (A subclass of `Module` does the same, and can say more.)

    Args:
        net: the native model, called with the inputs of a minibatch.
        loss: ``(y_hat, y) -> losses``, an array to be averaged here, or their mean or sum.
        optimizer: what `configure_optimizers` shall return; None takes plain SGD at ``lr``.
        lr: learning rate of plain SGD.
        reduction: whether a scalar ``loss`` is a ``"mean"`` or a ``"sum"`` over the targets:
            the mean is recorded. None asks the loss, see `reduction_of`; a function that does
            not say counts as a mean.

    Raises:
        SettingError: an unknown reduction.
    """

    lr: float

    def __init__(
        self,
        net: Any,
        loss: Callable[[Any, Any], Any],
        optimizer: Any = None,
        lr: float = 0.1,
        reduction: str | None = None,
    ) -> None:
        super().__init__()
        self.net, self.loss_fn, self.optimizer, self.lr = net, loss, optimizer, lr
        self.reduction = check_reduction(reduction, loss)

    def loss(self, y_hat: Any, y: Any) -> Any:
        return self.backend.xp.mean(self.loss_fn(y_hat, y))

    def configure_optimizers(self) -> Any:
        return super().configure_optimizers() if self.optimizer is None else self.optimizer
