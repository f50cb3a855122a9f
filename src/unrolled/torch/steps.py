"""When a step of a training loop that is not ours begins and ends, and its norms.

Nobody calls us: a backward pass is known by the gradients it leaves, a step by the optimizer's
own hooks. Between them stands clipping, if there is any.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import nn

from unrolled.kernels.measures import torch as measures

Named = dict[str, nn.Parameter]


def norms_of(tensors: Sequence[torch.Tensor], order: float = 2.0) -> list[torch.Tensor]:
    """The norm of each tensor, in one go.

    On the CPU in float64: the squares of an exploding gradient overflow float32 long before
    the gradient itself does. Elsewhere that would cost; there in float32 at least.

    Example:
        >>> [norm.item() for norm in norms_of([torch.tensor([3.0, 4.0]), torch.ones(1)])]
        [5.0, 1.0]
    """
    dense = [t.coalesce().values() if t.is_sparse else t for t in map(torch.Tensor.detach, tensors)]
    dense = [torch.view_as_real(t) if t.is_complex() else t for t in dense]
    if not dense:
        return []
    measured = measures.norms(dense) if order == 2.0 else None  # in float64
    if measured is not None:
        return list(measured.unbind())
    wide = all(t.device.type == "cpu" for t in dense)
    half = any(t.dtype.itemsize < 4 for t in dense)
    kind = torch.float64 if wide else torch.float32 if half else None
    return list(torch._foreach_norm(dense, order, dtype=kind))


def total(norms: Sequence[torch.Tensor]) -> torch.Tensor:
    """The norm of all together, on the device of the first."""
    where = norms[0].device
    result: torch.Tensor = torch.stack([n.to(where, widest(where)) for n in norms]).norm()
    return result


def widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass
class Step:
    """What is known of the running step; all numbers still on the device.

    Attributes:
        gradient, largest: of each parameter the norm of its gradient after the last
            backward pass, and its largest entry.
        clipped: norms as the optimizer saw them.
        weight, moved: norms of the weights before the update, and of the update.
        order: names in the order in which gradients came.
        passes: backward passes so far.
        lost: how many of them had been thrown away, not being finite, before the last.
        whole: the global norm after the last pass.
        scale: what a loss scaler multiplied the gradients by until it took it back.
        left_scaled: what the optimizer itself still divides them by.
        skipped: whether the optimizer was told to skip (1) or not (0).
        fresh: parameters whose gradient has changed.
        stepped: those that an optimizer has moved.
        versions: how often each parameter had been written to.
        left: the gradients that the last pass left, and how often each had been written to.
        told: losses that had been told by then.
    """

    gradient: dict[str, torch.Tensor] = field(default_factory=dict)
    largest: dict[str, torch.Tensor] = field(default_factory=dict)
    clipped: dict[str, torch.Tensor] = field(default_factory=dict)
    weight: dict[str, torch.Tensor] = field(default_factory=dict)
    moved: dict[str, torch.Tensor] = field(default_factory=dict)
    order: dict[str, None] = field(default_factory=dict)
    passes: int = 0
    lost: torch.Tensor | None = None
    whole: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    left_scaled: torch.Tensor | None = None
    skipped: torch.Tensor | None = None
    fresh: set[str] = field(default_factory=set)
    stepped: set[str] = field(default_factory=set)
    versions: list[int] = field(default_factory=list)
    left: list[tuple[ref[torch.Tensor], int]] = field(default_factory=list)
    told: int = 0

    def went_back(self, parameters: Named) -> None:
        """A backward pass is over: take the norms of the gradients as they stand."""
        have = {n: p.grad for n, p in parameters.items() if p.grad is not None}
        names, gradients = list(have), list(have.values())
        # one that is itself differentiable is replaced, not added to, by the next pass
        replaced = any(gradient.requires_grad for gradient in gradients)
        self.left = [] if replaced else [(ref(g), g._version) for g in gradients]
        # an optimizer may have stepped, and cleared, while the gradients came
        before = {n: norm for n, norm in self.gradient.items() if n in self.stepped}
        self.gradient = before | dict(zip(names, norms_of(gradients), strict=True))
        self.largest = dict(zip(names, norms_of(gradients, torch.inf), strict=True))
        if not names:
            return
        if self.whole is not None:
            # had it not been thrown away, what was added to it would not be finite either
            bad = (~torch.isfinite(self.whole)).float()
            self.lost = bad if self.lost is None else self.lost + bad
        self.whole = total(list(self.gradient.values()))

    def lost_gradients(self) -> bool:
        """Whether all gradients of the last pass are gone (``zero_grad``), and nothing moved."""
        if not self.left or self.stepped:
            return False
        return all(gradient() is None for gradient, _ in self.left)

    def zeroed_gradients(self, arrived: torch.Tensor | None = None) -> bool:
        """Whether they are all there, but zero (``zero_grad(set_to_none=False)``).

        Args:
            arrived: the gradient that the next pass has already added to.
        """
        left = [(gradient(), version) for gradient, version in self.left]
        rest = [(g, version) for g, version in left if g is not None and g is not arrived]
        if not rest or self.stepped or any(g._version == version for g, version in rest):
            return False  # numbers are looked at, and a GPU waited for, only if all were changed
        return not any(g.any() for g, _ in rest)

    def before_update(self, parameters: Named) -> dict[str, torch.Tensor]:
        """Copies of the weights that an optimizer is about to move."""
        return {name: p.detach().clone() for name, p in parameters.items()}

    def take_clipped(self, parameters: Named) -> None:
        """The norms of the gradients as the optimizer takes them."""
        have = {n: p.grad for n, p in parameters.items() if p.grad is not None}
        self.clipped |= dict(zip(have, norms_of(list(have.values())), strict=True))
        for name in have.keys() - self.gradient.keys():
            # no backward pass was seen to bring it: made by hand, or for a lazy parameter
            self.gradient[name] = self.clipped[name]

    def updated(self, parameters: Named, before: dict[str, torch.Tensor]) -> None:
        """An optimizer has moved the weights."""
        old = norms_of(list(before.values()))
        moves = norms_of([parameters[name].detach() - values for name, values in before.items()])
        self.weight |= dict(zip(before, old, strict=True))
        self.moved |= dict(zip(before, moves, strict=True))

    def take_weights(self, parameters: Named) -> None:
        """The norms of weights that have not moved, too; in the model's own order."""
        rest = {name: p for name, p in parameters.items() if name not in self.weight}
        self.weight |= dict(zip(rest, norms_of(list(rest.values())), strict=True))
        self.weight = {name: self.weight[name] for name in parameters if name in self.weight}


def has_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether ``optimizer.step`` computes the gradients itself, by calling back."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    return closure is not None


def loss_scale() -> torch.Tensor | None:
    """The scale of the `GradScaler` whose ``step`` is running, if one is.

    It is found among the callers: a scaler registers nowhere.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        # to look at the locals of other frames would keep them alive
        if frame.f_globals.get("__name__") == torch.amp.grad_scaler.__name__:
            scale: torch.Tensor | None = frame.f_locals["self"]._scale
            return scale.detach().clone() if scale is not None else None
        frame = frame.f_back
    return None


def to_floats(tensors: dict[Any, torch.Tensor]) -> dict[Any, list[float]]:
    """The numbers of all tensors, brought from the device at once.

    Example:
        >>> to_floats({"a": torch.tensor(1.0), "b": torch.tensor([2.0, 3.0])})
        {'a': [1.0], 'b': [2.0, 3.0]}
    """
    if not tensors:
        return {}
    flat = [tensor.detach().reshape(-1) for tensor in tensors.values()]
    where = next((t.device for t in flat if t.device.type != "cpu"), flat[0].device)
    numbers = iter(torch.cat([part.to(where, widest(where)) for part in flat]).tolist())
    return {
        key: [next(numbers) for _ in range(part.numel())]
        for key, part in zip(tensors, flat, strict=True)
    }
