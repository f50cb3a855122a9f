"""``Trainer`` and data modules bound to PyTorch's backend (the loop is shared), and ``SGD``."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch

from unrolled.backends import Backend
from unrolled.backends import torch as backend
from unrolled.data import data_module, synthetic, text_data
from unrolled.torch.data_parallel import DataParallel
from unrolled.torch.sparse_gradients import with_sparse_gradients
from unrolled.torch.through_time.layer_watch import LayerWatch, watch_layers
from unrolled.training import sgd, trainer


class DataModule(data_module.DataModule):
    backend: ClassVar[Backend] = backend


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class Trainer(trainer.Trainer):
    backend: ClassVar[Backend] = backend

    def differentiable(self, objective: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
        return super().differentiable(with_sparse_gradients(self, objective))

    def own_state(self) -> int | None:
        return self.data_parallel.seed

    def load_own_state(self, state: int | None) -> None:
        if self.data_parallel.processes > 1 and state is not None:
            self.data_parallel.seed = state

    def watch_layers(self) -> LayerWatch | None:
        together = self.data_parallel
        return watch_layers(self.model, together if isinstance(together, DataParallel) else None)


class SGD(sgd.SGD):
    """Minibatch stochastic gradient descent: ``param -= lr * grad``.

    Args:
        params: tensors to update.
        lr: learning rate.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> (3 * w).sum().backward()
        >>> SGD([w], lr=0.1).step()
        >>> round(w.item(), 2)
        0.7
    """

    takes_rows: ClassVar[bool] = True

    def __init__(self, params: Iterable[torch.Tensor], lr: float) -> None:
        self.save_hyperparameters(ignore=["params"])
        self.params = list(params)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient against it."""
        # `updates.sgd`, in place and without the arrays that the formula would make
        for param in self.params:
            if param.grad is not None:
                param.sub_(param.grad, alpha=self.lr)

    def zero_grad(self) -> None:
        """Set the gradients to zero."""
        for param in self.params:
            if param.grad is not None:
                param.grad.zero_()
