"""`ForwardTrace`: the losses of a step, and sums that tell where numbers stop being finite.

Whether a call counts is known only when a backward pass has gone through it and has brought
gradients to the weights. Until then what a call has shown is kept by nothing but the graph of
its results: forward passes that nothing comes of leave nothing here.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from unrolled.torch.through_time.sequences import PendingBackwards
from unrolled.watch.torch.tree import tensors_in


@dataclass(eq=False)
class Shown:
    """Sums and the loss from one call of a module, and the step in which they counted last."""

    place: int
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    loss: torch.Tensor | None = None
    step: int = 0


class ForwardTrace:
    """Sums and losses of the forward passes of the running step."""

    def __init__(self) -> None:
        self.step = self.begun = self.told_before = 0
        self.waiting = PendingBackwards()
        self.told: list[Any] = []  # losses that the person has told
        self.forget()

    def clear(self) -> None:
        """Forget everything: the step is over."""
        self.told_before = len(self.told)
        self.forget()

    def forget(self) -> None:
        """Forget what was counted, and losses that were told before the last backward pass."""
        self.step += 1
        # of inputs and outputs, in the order of computation: a sum is finite if all numbers are
        self.sums: dict[str, torch.Tensor] = {}
        self.told, self.told_before = self.told[self.told_before :], 0
        self.own: list[Any] = []  # losses that the model has returned
        self._begin()

    def _begin(self) -> None:
        """The next call of a module is the first of a forward pass, as far as can be told."""
        self.at_start = True
        self.before: dict[str, torch.Tensor] = {}

    @property
    def losses(self) -> list[Any]:
        """The losses of the step's minibatches: as told, else as returned, else none."""
        return self.told or self.own

    def after_root(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """The model has run: it may have returned its loss, alone or among others."""
        value = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", output)
        if isinstance(value, torch.Tensor) and value.dim() == 0 and value.requires_grad:
            self._listen(value, Shown(self._place(), loss=value.detach()))
        self._begin()

    def after_leaf(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module without modules inside has run."""
        shown = Shown(self._place(), self.before)
        if self.at_start:
            for tensor in tensors_in((args, kwargs)):
                shown.sums.setdefault(f"an input of {name}", _sum(tensor))
        for tensor in tensors_in(output):
            _add(shown.sums, f"the output of {name}", _sum(tensor))
        self.at_start = False
        # what no gradient can reach (a frozen layer) counts with the next that one does reach
        self.before = {} if self._listen(output, shown) else shown.sums

    def after_backward(self, which: int | None) -> None:
        """Gradients of a graph task (None: of all) count, and so does what they went through."""
        self.told_before = len(self.told)
        for shown, _ in self.waiting.take(which):
            if shown.step == self.step:  # it counts once, however many passes go through it
                continue
            shown.step = self.step
            for key, value in shown.sums.items():
                _add(self.sums, key, value)
            if shown.loss is not None:
                self.own.append(shown.loss)
        self._begin()

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


def _add(sums: dict[str, torch.Tensor], key: str, value: torch.Tensor) -> None:
    before = sums.get(key)
    sums[key] = value if before is None else before + value


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    """In float32 at least: half types overflow when added up."""
    return tensor.detach().sum(dtype=torch.float32 if tensor.dtype.itemsize < 4 else None)
