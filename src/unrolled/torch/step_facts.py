"""Facts about a step that its norms do not tell: optimizer, unused modules, gradients left over."""

from collections.abc import Mapping
from typing import Any
from weakref import ref

import torch
from torch import nn

from unrolled.torch.steps import Named


class StepFacts:
    """Collects the facts of the running step for `unrolled.telemetry.records.TelemetryRecord`.

    Attributes:
        ran: names of the modules without children that ran in a recorded forward pass.
    """

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.left: dict[str, tuple[ref[torch.Tensor], int]] = {}
        self.kept: tuple[str, torch.Tensor, int, torch.Tensor] | None = None
        self.clear()

    def clear(self) -> None:
        """Begin the next step; what gradients the last one left stays known."""
        self.ran.clear()
        self.groups: dict[str, Mapping[str, Any]] = {}
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
        self._look_for_late_scaling()
        self.left = {}

    def before_step(self, optimizer: Any, mine: Named) -> None:
        """An optimizer is about to move these parameters."""
        ids = {id(parameter) for parameter in mine.values()}
        group = next(g for g in optimizer.param_groups if any(id(p) in ids for p in g["params"]))
        self.groups[type(optimizer).__name__] = group
        if self.on_top is not None and self.on_top[0] in mine:
            self.uncleared |= self.on_top[1]() is mine[self.on_top[0]].grad
            self.on_top = None

    def after_step(self, mine: Named) -> None:
        """It has moved them; whoever changes their gradients from now on comes too late."""
        have = {n: p.grad for n, p in mine.items() if p.grad is not None and not p.grad.is_sparse}
        self.left |= {name: (ref(gradient), gradient._version) for name, gradient in have.items()}
        if have:
            name = min(have, key=lambda name: have[name].numel())
            gradient = have[name].detach()
            self.kept = name, gradient, gradient._version, gradient.clone()

    def _look_for_late_scaling(self) -> None:
        """Find out whether the last step's gradients were scaled down after it."""
        if self.kept is None:
            return
        _, now, version, before = self.kept
        self.kept = None
        if now._version == version + 1 and bool(now.any()):
            factor = float(now.norm() / before.norm())
            if factor < 1 and torch.allclose(now, before * factor, rtol=1e-3):
                self.scaled_late = factor

    def fields(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the step's record.

        Args:
            parameters: its `ParameterRecord`, by name.
        """
        owners = {name: name.rpartition(".")[0] for name in parameters}
        first = next(iter(self.groups.values()), {})
        return {
            "optimizer": " + ".join(self.groups) or None,
            "weight_decay": _number(first.get("weight_decay")),
            "uncleared": self.uncleared,
            "scaled_late": self.scaled_late,
            "unused": [
                name
                for name, parameter in parameters.items()
                if parameter.gradient_norm is None and owners[name] not in self.ran
            ],
        }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
