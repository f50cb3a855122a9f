"""`ForwardTrace`: the losses of a step, and sums that tell where numbers stop being finite.

Whether a call counts is known only when a backward pass has gone through it and has brought
gradients to the weights. Until then what a call has shown is kept by nothing but the graph of
its results: forward passes that nothing comes of leave nothing here.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn.modules.loss import _Loss

from unrolled.watch.torch.pending_backwards import PendingBackwards
from unrolled.watch.torch.tree import tensors_in


@dataclass(eq=False)
class Shown:
    """What one call of a module has shown.

    Attributes:
        place: among all calls, in the order of computation.
        sums: of inputs and outputs, by name.
        own: the loss, if it was the model's own.
        parts: the loss by the module's name, if it was a loss module's.
        step: of `ForwardTrace`, in which it was counted last.
    """

    place: int
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    own: torch.Tensor | None = None
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0


class ForwardTrace:
    """What was seen of the forward passes of the running step.

    Attributes:
        sums: of inputs and outputs, by name, in the order of computation; a sum is finite
            if all numbers are.
        told: losses that the person has told.
        own: losses that the model has returned.
        parts: losses of loss modules inside the model, by name.
    """

    def __init__(self) -> None:
        self.step = self.begun = 0
        self.waiting = PendingBackwards()
        self.told: list[Any] = []
        self.clear()

    def clear(self) -> None:
        """Forget everything: the step is over."""
        self.forget(len(self.told))

    def forget(self, told: int) -> None:
        """Forget what was counted, and so many of the losses that were told."""
        self.step += 1
        self.sums: dict[str, torch.Tensor] = {}
        self.told = self.told[told:]
        self.own: list[Any] = []
        self.parts: dict[str, list[Any]] = {}
        self._begin()

    def _begin(self) -> None:
        """The next call of a module is the first of a forward pass, as far as can be told."""
        self.at_start = True
        self.before: dict[str, torch.Tensor] = {}

    @property
    def losses(self) -> list[Any]:
        """The losses of the step's minibatches: as told, else as seen, else none."""
        inner = next(iter(self.parts.values())) if len(self.parts) == 1 else []
        return self.told or self.own or inner

    def after_root(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """The model has run: it may have returned its loss, alone or among others."""
        value = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", output)
        if value is not None and is_loss(value):
            self._listen(value, Shown(self._place(), own=value.detach()))
        self._begin()

    def after_leaf(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module without modules inside has run."""
        shown = Shown(self._place(), self.before)
        if isinstance(module, _Loss) and is_loss(output):
            shown.parts[name] = output.detach()
        if self.at_start:
            for tensor in tensors_in((args, kwargs)):
                shown.sums.setdefault(f"an input of {name}", _sum(tensor))
        for tensor in tensors_in(output):
            _add(shown.sums, f"the output of {name}", _sum(tensor))
        self.at_start = False
        # what no gradient can reach (a frozen layer) counts with the next that one does reach
        self.before = {} if self._listen(output, shown) else shown.sums

    def after_backward(self, which: int | None) -> None:
        """Gradients have arrived that count, and so does what they went through.

        Args:
            which: the graph task; see `Recurrences.after_backward`.
        """
        for shown, _ in self.waiting.take(which):
            if shown.step != self.step:  # once, however many passes go through it
                shown.step = self.step
                self._count(shown)
        self._begin()

    def _count(self, shown: Shown) -> None:
        for key, value in shown.sums.items():
            _add(self.sums, key, value)
        if shown.own is not None:
            self.own.append(shown.own)
        for name, value in shown.parts.items():
            self.parts.setdefault(name, []).append(value)

    def _place(self) -> int:
        self.begun += 1
        return self.begun

    def _listen(self, output: Any, shown: Shown) -> bool:
        """Wait for a backward pass to come to one of a call's results; whether one may."""
        nodes = [tensor.grad_fn for tensor in tensors_in(output) if tensor.grad_fn is not None]
        for node in nodes:
            node.register_prehook(partial(self._arrive, shown))
        return bool(nodes)

    def _arrive(self, shown: Shown, gradients: Any) -> None:
        self.waiting.arrive(shown)


def is_loss(value: Any) -> bool:
    """Whether a value is a single number that can be differentiated."""
    return isinstance(value, torch.Tensor) and value.dim() == 0 and value.requires_grad


def _add(sums: dict[str, torch.Tensor], key: str, value: torch.Tensor) -> None:
    before = sums.get(key)
    sums[key] = value if before is None else before + value


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    """In float32 at least: half types overflow when added up."""
    return tensor.detach().sum(dtype=torch.float32 if tensor.dtype.itemsize < 4 else None)
