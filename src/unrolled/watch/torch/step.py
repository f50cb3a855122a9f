"""`Step`: the norms of the running optimizer step, before and after clipping.

A backward pass is known by the gradients it leaves, a step by the optimizer's own hooks. Between
them stands clipping, if there is any.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import nn

from unrolled.backends import torch as backend

Named = dict[str, nn.Parameter]
Tensors = dict[str, torch.Tensor]


def norms_of(tensors: Sequence[torch.Tensor], order: float = 2.0) -> list[torch.Tensor]:
    """The norm of each tensor, in one go.

    On the CPU in float64: the squares of an exploding gradient overflow float32 long before
    the gradient itself does. Elsewhere that would cost; there in float32 at least.
    """
    dense = [t.coalesce().values() if t.is_sparse else t for t in map(torch.Tensor.detach, tensors)]
    dense = [torch.view_as_real(t) if t.is_complex() else t for t in dense]
    if not dense:
        return []
    measured = backend.norms(dense) if order == 2.0 else None  # in float64
    if measured is not None:
        return list(measured.unbind())
    wide = all(t.device.type == "cpu" for t in dense)
    half = any(t.dtype.itemsize < 4 for t in dense)
    kind = torch.float64 if wide else torch.float32 if half else None
    return list(torch._foreach_norm(dense, order, dtype=kind))


@dataclass
class Step:
    """The running step by parameter, as far as it is known; all numbers still on the device."""

    gradient: Tensors = field(default_factory=dict)  # norms after the last backward pass
    largest: Tensors = field(default_factory=dict)  # entries of these gradients
    clipped: Tensors = field(default_factory=dict)  # norms as the optimizer saw them
    weight: Tensors = field(default_factory=dict)  # norms before the update
    moved: Tensors = field(default_factory=dict)  # norms of the update
    passes: int = 0  # backward passes so far
    scale: torch.Tensor | None = None  # of a loss scaler, until it took it back
    left_scaled: torch.Tensor | None = None  # what the optimizer itself still divides by
    skipped: torch.Tensor | None = None  # whether the optimizer was told to skip (1) or not (0)
    before: Tensors = field(default_factory=dict)  # the weights before any optimizer moved them
    rates: list[Any] = field(default_factory=list)  # of the groups of optimizers that have stepped
    # parameters whose gradient has changed, in the order in which gradients came
    fresh: dict[str, None] = field(default_factory=dict)
    stepped: set[str] = field(default_factory=set)  # those that an optimizer has moved
    # the gradients that the last pass left, and how often each had been written to
    left: dict[str, tuple[ref[torch.Tensor], int]] = field(default_factory=dict)

    def went_back(self, parameters: Named) -> None:
        """A backward pass is over: remember how it has left the gradients."""
        self.passes += 1
        have = self._gradients(parameters)
        # one that is itself differentiable is replaced, not added to, by the next pass
        replaced = any(gradient.requires_grad for gradient in have.values())
        self.left = {} if replaced else {n: (ref(g), g._version) for n, g in have.items()}

    def take_gradients(self, parameters: Named) -> None:
        """The norms of the gradients as a backward pass has left them."""
        have = self._gradients(parameters)
        names, gradients = list(have), list(have.values())
        # an optimizer may have stepped, and cleared, while the gradients came
        before = {n: norm for n, norm in self.gradient.items() if n in self.stepped}
        self.gradient = before | dict(zip(names, norms_of(gradients), strict=True))
        self.largest = dict(zip(names, norms_of(gradients, torch.inf), strict=True))

    def _gradients(self, parameters: Named) -> Tensors:
        """Gradients that count; others are of an earlier step, or of parameters frozen by now."""
        return {
            name: p.grad
            for name, p in parameters.items()
            if name in self.fresh and p.grad is not None and p.requires_grad
        }

    def cleared(self, parameters: Named, arrived: nn.Parameter) -> bool:
        """Whether ``zero_grad`` of either kind has cleared what the last pass left.

        The next pass has already added to the gradient of the parameter that has arrived.
        """
        if not self.left or self.stepped:
            return False
        others = [
            (parameters[name].grad, left)
            for name, left in self.left.items()
            if name in parameters and parameters[name] is not arrived
        ]
        if not others:  # it is the only one: was it added to?
            return all(left() is not arrived.grad for left, _ in self.left.values())
        have = [(g, left, version) for g, (left, version) in others if g is not None]
        if any(g is left() and g._version == version for g, left, version in have):
            return False
        # numbers are looked at, and a GPU waited for, only if all were changed
        return not any((g._values() if g.is_sparse else g).any() for g, _, _ in have)

    def is_lost(self) -> bool:
        """Whether gradients, of passes that were thrown away, were not finite."""
        return not all(bool(torch.isfinite(norm)) for norm in self.gradient.values())

    def anew(self) -> "Step":
        """The same step without its passes so far: what they brought was thrown away."""
        new = Step(before=self.before, rates=self.rates)
        new.left_scaled, new.skipped = self.left_scaled, self.skipped
        return new

    def after(self) -> "Step":
        """The next step; gradients that no optimizer has taken in this one may go into it."""
        rest = self.fresh.keys() - self.stepped if self.stepped else set()
        return Step(
            gradient={name: norm for name, norm in self.gradient.items() if name in rest},
            left={name: left for name, left in self.left.items() if name in rest},
        )

    def failed(self) -> None:
        """An optimizer's step has raised an error: it has moved nothing that counts."""
        self.before = {name: self.before[name] for name in self.before if name in self.stepped}
        self.clipped = {name: self.clipped[name] for name in self.clipped if name in self.stepped}
        self.rates = self.rates if self.stepped else []

    def before_update(self, parameters: Named) -> None:
        """Copies of the weights that an optimizer is about to move, if none has moved them."""
        rest = parameters.keys() - self.before.keys()
        self.before |= {name: parameters[name].detach().clone() for name in rest}

    def take_clipped(self, parameters: Named, as_they_came: bool = False) -> None:
        """The norms of the gradients as the optimizer takes them.

        They are as they came if it steps within the backward pass: nobody can have clipped them.
        """
        have = {
            name: p.grad
            for name, p in parameters.items()
            if p.grad is not None and p.requires_grad and (name in self.fresh or not self.passes)
        }
        self.clipped |= dict(zip(have, norms_of(list(have.values())), strict=True))
        if as_they_came:  # else one that no pass was seen to bring may have been clipped since
            new = have.keys() - self.gradient.keys()
            self.gradient |= {name: self.clipped[name] for name in new}

    def updated(self, parameters: Named) -> None:
        """An optimizer has moved these weights."""
        old = [self.before[name] for name in parameters]
        moves = [p.detach() - old for p, old in zip(parameters.values(), old, strict=True)]
        self.weight |= dict(zip(parameters, norms_of(old), strict=True))
        self.moved |= dict(zip(parameters, norms_of(moves), strict=True))

    def take_weights(self, parameters: Named) -> None:
        """The norms of weights that have not moved, too; in the model's own order."""
        rest = {name: p for name, p in parameters.items() if name not in self.weight}
        self.weight |= dict(zip(rest, norms_of(list(rest.values())), strict=True))
        self.weight = {name: self.weight[name] for name in parameters if name in self.weight}


def groups_with(optimizer: Any, parameters: Named) -> list[dict[str, Any]]:
    """The groups of an optimizer that hold any of these parameters."""
    ids = {id(parameter) for parameter in parameters.values()}
    groups = optimizer.param_groups
    return [group for group in groups if any(id(p) in ids for p in group["params"])]


def to_floats(tensors: dict[Any, torch.Tensor]) -> dict[Any, list[float]]:
    """The numbers of all tensors, brought from the device at once."""
    if not tensors:
        return {}
    flat = [tensor.detach().reshape(-1) for tensor in tensors.values()]
    where = next((t.device for t in flat if t.device.type != "cpu"), flat[0].device)
    wide = torch.float32 if where.type == "mps" else torch.float64  # which has no other
    numbers = iter(torch.cat([part.to(where, wide) for part in flat]).tolist())
    return {
        key: [next(numbers) for _ in range(part.numel())]
        for key, part in zip(tensors, flat, strict=True)
    }
