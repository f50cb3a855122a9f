"""The training design on PyTorch: data, trainer and optimizer."""

import warnings
from collections.abc import Iterable
from functools import partial
from inspect import isfunction, ismethod
from typing import Any, ClassVar

import torch
from torch import nn

from unrolled.backends import Backend
from unrolled.backends import torch as backend
from unrolled.data import data_module, synthetic, text_data
from unrolled.hyperparameters import HyperParameters
from unrolled.kernels.listed.torch import listed
from unrolled.torch import hooks
from unrolled.torch.layer_watch import LayerWatch, watch_layers
from unrolled.torch.replaying import Replayed, recorded_when_warm
from unrolled.training import trainer
from unrolled.training.tracing import ThroughTime

PLAIN = (bool, int, float, str)
"""Types of a model's attributes that its lines may decide by."""


class DataModule(data_module.DataModule):
    backend: ClassVar[Backend] = backend


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class Trainer(trainer.Trainer):
    backend: ClassVar[Backend] = backend

    def prepare(self, model: Any, data: Any) -> None:
        super().prepare(model, data)
        if not self.replay:
            return
        if foreign := foreign_code(self.model):
            warnings.warn(
                f"not replayed: {foreign} is not code of unrolled or PyTorch, and might compute "
                "something else at the next step",
                stacklevel=3,
            )
            return
        record = recorded_when_warm if self.gpus else listed
        # minibatch and state come from a new place every time, parameters stay
        replayed = partial(
            Replayed, copied=(1, 2), record=record, circumstances=self._circumstances
        )
        self.differentiate = replayed(self.differentiate)
        if self.gpus:
            self._clip, self._join = Replayed(self._clip), Replayed(self._join)
        else:
            self.tracer.differentiate = replayed(self.tracer.differentiate)

    def _circumstances(self) -> tuple[Any, ...] | None:
        """What a step depends on beside tensors: numbers, switches and texts in the model.

        None if somebody watches, so that the model's lines must run.
        """
        if hooks.are_on(self.model, self.parameters.values()):
            return None
        modules = self.model.modules() if isinstance(self.model, nn.Module) else (self.model,)
        return tuple(v for m in modules for v in vars(m).values() if type(v) in PLAIN)

    def backward(
        self, batch: Any, state: Any, traced: bool = False
    ) -> tuple[Any, Any, ThroughTime | None]:
        found = super().backward(batch, state, traced)
        if isinstance(self.differentiate, Replayed):
            for name, parameter in self.parameters.items():
                parameter.grad = found[1].get(name)  # a replay leaves them where they were
        return found

    def limited(self, gradients: Any) -> tuple[Any, Any, Any, Any]:
        gradients, clipped, *norms = super().limited(gradients)
        if isinstance(self.differentiate, Replayed) and not _lets_go(self.optim):
            clipped = {name: gradient.clone() for name, gradient in clipped.items()}
        return gradients, clipped, *norms

    def watch_layers(self) -> LayerWatch | None:
        return watch_layers(self.model)


def foreign_code(model: Any) -> str | None:
    """Name a function of the model that somebody else wrote; None if there is none.

    The recorded operations are right for as long as the code that made them would make them
    again. Foreign code may decide by anything: a list, a global, the time of day.
    """
    modules = model.modules() if isinstance(model, nn.Module) else (model,)
    for module in modules:
        for owner in (vars(module), *map(vars, type(module).__mro__)):
            for name, value in owner.items():
                source = value.func if isinstance(value, partial) else value
                source = source.__func__ if ismethod(source) else source
                if not isfunction(source):
                    continue
                package = (source.__module__ or "").partition(".")[0]
                if package not in ("unrolled", "torch"):
                    return f"{type(module).__name__}.{name} of {source.__module__}"
    return None


def _lets_go(optimizer: Any) -> bool:
    """Whether an optimizer is known not to keep gradients, which the next replay changes."""
    return type(optimizer) is SGD or type(optimizer).__module__.startswith("torch.optim.")


class SGD(HyperParameters):
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
    lr: float

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
