"""``Trainer`` and data modules bound to PyTorch's backend (the loop is shared), and ``SGD``."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import torch

from unrolled.backends import Backend
from unrolled.backends import torch as backend
from unrolled.backends.state.torch import drawing_alone
from unrolled.data import data_module, synthetic, text_data
from unrolled.torch.data_parallel import DataParallel
from unrolled.torch.sparse_gradients import with_sparse_gradients
from unrolled.torch.through_time.layer_watch import LayerWatch, watch_layers
from unrolled.training import sgd, trainer
from unrolled.training.data_parallel import batch_axes, each_array
from unrolled.training.tracing import ThroughTime


class DataModule(data_module.DataModule):
    backend: ClassVar[Backend] = backend


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class Trainer(trainer.Trainer):
    backend: ClassVar[Backend] = backend
    _seed: int = 0

    def prepare(self, model: Any, data: Any) -> None:
        super().prepare(model, data)
        if self._processes:
            # loaders draw the same in all processes then; what a step drops is each one's own
            self._seed, *_ = self._processes.everyone(backend.fresh_seed())
            backend.seed(self._seed)

    @property
    def _processes(self) -> DataParallel | None:
        found = self.data_parallel
        return found if isinstance(found, DataParallel) else None

    def compile_functions(self) -> None:
        self._reducing: Any = None
        super().compile_functions()

    def differentiable(self, objective: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
        objective = with_sparse_gradients(self, objective)
        if self._processes:
            self._reducing = self._reducing or self._processes.reducing(self)
            objective = partial(self._reducing, partial(self._share_of_loss, objective))
        return super().differentiable(objective)

    def _share_of_loss(self, objective: Callable[..., tuple[Any, Any]], *arguments: Any) -> Any:
        """The loss of a part of a minibatch, of which the mean over all parts is the whole's."""
        loss, auxiliary = objective(*arguments)
        sums = self.is_divided and getattr(self.model, "reduction", "mean") == "sum"
        return loss * self.data_parallel.parts if sums else loss, auxiliary

    def backward(
        self, batch: Any, state: Any, traced: bool = False
    ) -> tuple[Any, Any, ThroughTime | None]:
        processes = self._processes
        if processes is None:
            return super().backward(batch, state, traced)
        with drawing_alone(self._seed, self.train_batch_idx, processes.rank):
            (loss, new), gradients, through_time = super().backward(batch, state, traced)
        if through_time is not None and self.is_divided:
            through_time = processes.gather_through_time(through_time)
        return (processes.mean(loss), new), processes.reduced(gradients), through_time

    def divided(self, batch: Any) -> Any:
        size = len(batch[-1]) // self.data_parallel.parts
        first = self.data_parallel.rank * size
        return tuple(part[first : first + size] for part in batch)

    def num_targets(self, batch: Any) -> int:
        return super().num_targets(batch) * (self.data_parallel.parts if self.is_divided else 1)

    def whole_state(self, state: Any) -> Any:
        if state is None or self._processes is None or not self.is_divided:
            return state
        return each_array(self._processes.gather, state, batch_axes(self.model))

    def part_of_state(self, state: Any) -> Any:
        if state is None or self._processes is None:
            return state
        rank, parts = self.data_parallel.rank, self.data_parallel.parts
        return each_array(lambda x, axis: x.chunk(parts, axis)[rank], state, batch_axes(self.model))

    def own_state(self) -> int | None:
        return self._seed if self._processes else None

    def load_own_state(self, state: int | None) -> None:
        self._seed = self._seed if state is None else state

    def watch_layers(self) -> LayerWatch | None:
        return watch_layers(self.model, self._processes)


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
