"""Calls of recurrent modules, and the gradients that arrive at the states that they return."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from weakref import ref

import torch
from torch import nn

from unrolled.backends.torch import xp
from unrolled.telemetry import through_time
from unrolled.torch import fused
from unrolled.torch.curves import Curves
from unrolled.torch.recompute import recompute_cells

CELL_MODES = {nn.RNNCell: "RNN_TANH", nn.GRUCell: "GRU", nn.LSTMCell: "LSTM"}


@dataclass(kw_only=True)
class Arrivals:
    """Gradients that arrive at what a call returned.

    Attributes:
        gradients: of all backward passes that count, by what they arrived at.
        second_order: whether a gradient can itself be differentiated; then the loss reaches
            the weights another way, too.
        listeners: what the graph calls when a gradient arrives, and alone keeps alive.
    """

    gradients: dict[Any, torch.Tensor] = field(default_factory=dict)
    second_order: bool = False
    listeners: list[ref[Any]] = field(default_factory=list)

    def counts(self) -> bool:
        """Return whether gradients have arrived, or still can."""
        return bool(self.gradients) or any(listener() is not None for listener in self.listeners)

    def add(self, key: Any, gradient: torch.Tensor) -> None:
        """Add a gradient of a backward pass that counts."""
        before = self.gradients.get(key)
        self.gradients[key] = gradient if before is None else before + gradient


@dataclass
class FusedCall(Arrivals):
    """A call of a fused layer, and the gradients at what it returned: ``"Y"``, 0 and 1."""

    call: fused.Call
    end: torch.Tensor

    @property
    def packed(self) -> bool:
        """True if it read packed sequences."""
        return self.call.packed

    @property
    def steps(self) -> int:
        """How many time steps it read."""
        return len(self.call.batch_sizes)


@dataclass
class CellCall(Arrivals):
    """A call of a cell: its state before and after, ``(B, H)`` or more axes.

    Attributes:
        before: hidden state before it; None for zeros.
        end: hidden state after it.
        gradients: at ``"h"``, and at the LSTM's ``"c"``.
        inputs: for PyTorch's cells the module, ``x``, ``c`` before the call, the weights, and
            whether what arrives at ``c`` counts the way through ``h`` too.
        axis: of the state, which is the batch's.
        versions: how often each of its tensors had been written to by then.
    """

    before: torch.Tensor | None
    end: torch.Tensor
    inputs: tuple[Any, ...] = ()
    axis: int = 0
    packed: bool = False
    steps: int = 1
    versions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.versions = self._versions()

    def overwritten(self) -> set[str]:
        """Which of its tensors have been written to since the call."""
        return {name for name, now in self._versions().items() if now != self.versions[name]}

    def _versions(self) -> dict[str, int]:
        parts: dict[str, list[Any]] = {"output": [self.end], "state": [self.before]}
        if self.inputs:
            _, x, c, weights, _ = self.inputs
            parts |= {"state": [self.before, c], "input": [x], "weights": weights}
        return fused.versions_of(parts)


def of_states(calls: Sequence[CellCall], truncation_points: tuple[int, ...]) -> Curves:
    """The curves of states of which nothing else is known."""
    hidden, after = _states(calls)
    norms = through_time.hidden_gradient_norms(xp, hidden)
    # of states that the person has written to since it is not known
    left = after[[not call.overwritten() for call in calls]]
    known = left if len(left) else torch.zeros_like(after)
    share = through_time.saturated_share(xp, known, through_time.UNKNOWN)[None]
    numbers = torch.cat([xp.mean(norms, axis=1), xp.amax(norms, axis=1), share])
    return Curves(numbers, truncation_points=truncation_points)


def of_cells(calls: Sequence[CellCall], truncation_points: tuple[int, ...]) -> Curves:
    """The curves of a loop over one of PyTorch's cells."""
    hidden, after = _states(calls)
    steps, batch, width = after.shape
    cell, _, _, weights, through_h = calls[0].inputs
    mode = "RNN_RELU" if getattr(cell, "nonlinearity", "") == "relu" else CELL_MODES[type(cell)]
    zeros = torch.zeros_like(_rows(calls[0].end))

    def one_step(parts: Iterable[torch.Tensor | None]) -> torch.Tensor:
        """The states of all calls as those of one step of T * B sequences."""
        return torch.cat([zeros if part is None else _rows(part) for part in parts])[None]

    # every call by itself is one step back from gradients that are known in full
    layer = SimpleNamespace(mode=mode, bidirectional=False, hidden_size=width, num_layers=1)
    first = [one_step(call.before for call in calls)]
    d_last: list[torch.Tensor | None] = [None]
    if mode == "LSTM":
        first.append(one_step(call.inputs[2] for call in calls))
        d_last.append(one_step(call.gradients.get("c") for call in calls))
    X = torch.cat([_rows(call.inputs[1]) for call in calls])  # (T * B, D)
    Y, dY = after.reshape(-1, width), hidden.reshape(-1, width)
    sizes = [len(Y)]
    call = fused.Call(layer, X, sizes, tuple(first), Y, [weights], Y.dtype, dY=dY, d_last=d_last)
    found = recompute_cells(call, through_h)
    D = found.recurrent.reshape(steps, batch, -1)
    # computed again: the person may have written to those that were given out
    before, after = (part.reshape(steps, batch, width) for part in (found.before, found.after))
    numbers = through_time.layer_numbers(xp, call.cell, hidden, D, before, after)
    return Curves(numbers, truncation_points=truncation_points, cell=call.cell, gates=found.gates)


def _states(calls: Sequence[CellCall]) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients and states, ``(T, B, H)``; steps that the loss does not depend on count 0."""
    after = torch.stack([_rows(call.end, call.axis) for call in calls])
    arrived = (call.gradients.get("h", torch.zeros_like(call.end)) for call in calls)
    hidden = torch.stack([_rows(dh, call.axis) for dh, call in zip(arrived, calls, strict=True)])
    kind = torch.promote_types(hidden.dtype, torch.float32)
    return hidden.to(kind), after.to(kind)


def _rows(x: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """``(B, .)`` of a state, batched or not, of any number of axes."""
    return x[None] if x.dim() == 1 else x.movedim(axis, 0).flatten(1)
