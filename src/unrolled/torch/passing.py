"""What a forward pass shows by itself: its loss, and where numbers stop being finite."""

from typing import Any

import torch
from torch.nn.modules.loss import _Loss

from unrolled.torch.recurrences import tensors_in


class Passing:
    """What was seen of the forward passes of the running step.

    Attributes:
        sums: of inputs and outputs, by name, in the order of computation; a sum is finite
            if all numbers are.
        told: losses that the person has told.
        own: losses that the model has returned.
        parts: losses of loss modules inside the model, by name.
    """

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.told: list[Any] = []
        self.own: list[Any] = []
        self.parts: dict[str, list[Any]] = {}

    @property
    def losses(self) -> list[Any]:
        """The losses of the step's minibatches: as told, else as seen, else none."""
        inner = next(iter(self.parts.values())) if len(self.parts) == 1 else []
        return self.told or self.own or inner

    def after_root(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """The model has run: it may have returned its loss, alone or among others."""
        value = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", output)
        if value is not None and is_loss(value):
            self.own.append(value.detach())

    def after_leaf(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module without modules inside has run."""
        if isinstance(module, _Loss) and is_loss(output):
            self.parts.setdefault(name, []).append(output.detach())
        if not self.sums:
            for tensor in tensors_in((args, kwargs)):
                self.sums.setdefault(f"an input of {name}", _sum(tensor))
        key = f"the output of {name}"
        for tensor in tensors_in(output):
            before = self.sums.get(key)
            self.sums[key] = _sum(tensor) if before is None else before + _sum(tensor)


def is_loss(value: Any) -> bool:
    """Whether a value is a single number that can be differentiated."""
    return isinstance(value, torch.Tensor) and value.dim() == 0 and value.requires_grad


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    """In float32 at least: half types overflow when added up."""
    return tensor.detach().sum(dtype=torch.float32 if tensor.dtype.itemsize < 4 else None)
