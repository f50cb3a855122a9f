"""`StepFacts`: hears of a step's events; finds unused parameters and clipping too late."""

from collections.abc import Mapping
from typing import Any
from weakref import ref

import torch
from torch import nn

from unrolled.watch.torch.step import Named


class StepFacts:
    """Collects the facts of the running step for `unrolled.telemetry.records.TelemetryRecord`."""

    def __init__(self) -> None:
        self.ran: set[str] = set()  # modules without children, in a recorded forward pass
        # the gradients that the last step left, and how often each had been written to
        self.left: dict[str, tuple[ref[torch.Tensor], int]] = {}
        self.kept: tuple[torch.Tensor, int, torch.Tensor] | None = None  # one, and a copy of it
        self.clear()

    def clear(self) -> None:
        """Begin the next step; what gradients the last one left stays known."""
        self.ran.clear()
        self.groups: dict[str, Mapping[str, Any]] = {}
        # a parameter to whose gradient of the last step one of this was added
        self.on_top: tuple[str, ref[torch.Tensor]] | None = None
        self.uncleared = False
        self.scaled_late: float | None = None

    def arrived(self, name: str | None, parameter: nn.Parameter) -> None:
        """The first gradient of a backward pass was added to a parameter."""
        left, version = self.left.get(name or "", (None, 0))
        gradient = parameter.grad
        if gradient is not None and left is not None and left() is gradient:
            # zero_grad replaces the gradient, or writes to it once more
            added = gradient._version == version + 1
            self.on_top = (str(name), ref(gradient)) if added else None
        self._look_for_late_clipping(gradient)
        self.left = {}

    def before_step(self, optimizer: Any, group: Mapping[str, Any], mine: Named) -> None:
        """An optimizer is about to move these parameters, the first of them in this group."""
        self.groups[type(optimizer).__name__] = group
        if self.on_top is not None and self.on_top[0] in mine:
            self.uncleared |= self.on_top[1]() is mine[self.on_top[0]].grad
            self.on_top = None

    def after_step(self, mine: Named) -> None:
        """It has moved them; whoever changes their gradients from now on comes too late."""
        have = {n: p.grad for n, p in mine.items() if p.grad is not None and not p.grad.is_sparse}
        self.left |= {name: (ref(gradient), gradient._version) for name, gradient in have.items()}
        if have:
            gradient = min(have.values(), key=torch.Tensor.numel).detach()
            self.kept = gradient, gradient._version, gradient.clone()

    def _look_for_late_clipping(self, added_to: torch.Tensor | None) -> None:
        """Find out whether the last step's gradients were made smaller after it."""
        if self.kept is None:
            return
        now, version, before = self.kept
        self.kept = None
        added = added_to is not None and added_to.data_ptr() == now.data_ptr()
        if added or now._version == version or not bool(now.any()):
            return  # added to, as it was, or cleared
        factor, smaller = float(now.norm() / before.norm()), now.abs() <= before.abs() * (1 + 1e-3)
        if factor < 1 and bool((smaller & (now * before >= 0)).all()):
            self.scaled_late = factor

    def fields(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the step's record; its `ParameterRecord` by name are given."""
        first = next(iter(self.groups.values()), {})
        decay = first.get("weight_decay")
        return {
            "optimizer": " + ".join(self.groups) or None,
            "weight_decay": None if decay is None else float(decay),
            "uncleared": self.uncleared,
            "scaled_late": self.scaled_late,
            "unused": [
                name
                for name, parameter in parameters.items()
                if parameter.gradient_norm is None and name.rpartition(".")[0] not in self.ran
            ],
        }
