"""`States` traces PyTorch's cells, modules that ``watch(model, states=...)`` names, and taps."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import nn

from unrolled.backends.torch import xp
from unrolled.errors import SettingError, did_you_mean
from unrolled.telemetry import through_time
from unrolled.torch.through_time.curves import Curves
from unrolled.torch.through_time.parameter_names import named_parts
from unrolled.torch.through_time.recurrences import Recurrences
from unrolled.torch.through_time.sequences import TracedCall, is_same
from unrolled.watch.torch.tree import named_tensors, part_at, tensors_in

StateNames = Mapping[str, str | tuple[str, int]]
"""Argument that holds the state, by module; a number with it is the axis of the batch."""

CELLS: dict[type[nn.Module], str] = {nn.RNNCell: "rnn", nn.GRUCell: "gru", nn.LSTMCell: "lstm"}

OVERWRITTEN = "states were written to after they were given out: their saturation is not known"


@dataclass
class NamedState:
    """Places at which a module takes in its state and returns it."""

    module: nn.Module
    path: str  # the argument of its ``forward``, and the part of it
    axis: int | None  # the batch's axis of the state; None if it was not told
    cell: str | None = None  # name in `unrolled.functional.bptt.STEPS`; None if it is not known
    place: int | None = None  # of the state among the tensors returned; None if not known so far
    latest: list[ref[torch.Tensor]] = field(default_factory=list)  # what its last call returned


@dataclass(kw_only=True, eq=False)
class StateCall(TracedCall):
    """One time step of which only the state after it is known, ``(B, H)`` or more axes."""

    axis: int = 0
    cell: str | None = None

    def __post_init__(self) -> None:
        self.version = self.end._version

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, .)`` of a state or its gradient, batched or not."""
        return x[None] if x.dim() == 1 else x.movedim(self.axis, 0).flatten(1)


def check_states(states: StateNames | None, model: nn.Module) -> dict[str, NamedState]:
    """Check the names of modules and arguments; what they name, by module."""
    named: dict[str, NamedState] = {}
    modules = dict(named_parts(model)[0]) if states else {}
    for name, told in (states or {}).items():
        path, axis = (told, None) if isinstance(told, str) else told
        if name not in modules:
            near = did_you_mean(name, list(modules))
            raise SettingError(f"states names a module '{name}'; the model has none. {near}")
        argument, _, _ = path.partition(".")
        arguments = list(inspect.signature(modules[name].forward).parameters)
        if argument not in arguments:
            near = did_you_mean(argument, arguments)
            raise SettingError(
                f"states names an argument '{argument}'; forward of {name} has none. {near}"
            )
        named[name] = NamedState(modules[name], path, axis)
    return named


def of_cell(module: nn.Module) -> NamedState | None:
    """The state of one of PyTorch's cells; None for other modules."""
    for kind, cell in CELLS.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            relu = getattr(module, "nonlinearity", "") == "relu"
            path = "hx.0" if kind is nn.LSTMCell else "hx"
            return NamedState(module, path, 0, "rnn_relu" if relu else cell, place=0)
    return None


class States:
    """Adds the states that modules hand on to the recurrences.

    ``named`` comes from `check_states`; cells are added as they are found.
    """

    def __init__(self, named: dict[str, NamedState], recurrences: Recurrences) -> None:
        self.named, self.recurrences, self.notes = named, recurrences, recurrences.notes
        self.latest: dict[str, list[ref[torch.Tensor]]] = {}

    def add(
        self,
        name: str,
        h: torch.Tensor,
        before: torch.Tensor | None,
        axis: int = 0,
        cell: str | None = None,
    ) -> None:
        """One more state of a recurrence."""
        if h.grad_fn is not None:
            call = StateCall(end=h.detach(), axis=axis, cell=cell)
            self.recurrences.add(name, before, call, {"h": h}, of_states)

    def after(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module has run whose state is known, or named."""
        named = self.named[name]
        given = list(tensors_in(part_at(_arguments(module, args, kwargs), named.path)))
        if len(given) > 1:
            self.notes[name] = (
                f"not traced: '{named.path}' holds {len(given)} tensors; name one, as "
                f"'{named.path}.0'"
            )
            return
        state, outputs = given[0] if given else None, list(tensors_in(output))
        if named.place is None and not self._find(name, named, state, outputs):
            return
        h = outputs[named.place or 0]
        if named.axis is None and h.dim() == 3:
            self.notes[name] = (
                f"its state is {tuple(h.shape)}, and the first axis is taken as that of the "
                f"batch. If it is another: watch(model, states={{'{name}': ('{named.path}', 1)}})"
            )
        self.add(name, h, state, named.axis or 0, named.cell)

    def after_unseen(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """It has run in a step that is not recorded; the next may be."""
        place = self.named[name].place
        if place is not None:
            self.recurrences.has_ended(name, list(tensors_in(output))[place])

    def _find(
        self,
        name: str,
        named: NamedState,
        state: torch.Tensor | None,
        outputs: Sequence[torch.Tensor],
    ) -> bool:
        """Find out which output is the state: of several the one that the next call is given."""
        if len(outputs) == 1:
            named.place = 0
            return True
        earlier = enumerate(named.latest)
        named.place = next((i for i, old in earlier if _is_again(state, old())), None)
        named.latest = [ref(each) for each in outputs]
        if named.place is not None:
            self.notes[name] = "its first time step is missing in the first record"
        return named.place is not None

    def are_in(self, module: nn.Module) -> bool:
        """Return whether a module has modules in it whose states are known."""
        known = {id(state.module) for state in self.named.values()}
        return any(id(part) in known for part in module.modules())

    def after_unnamed(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module of unknown kind has run: note it if it takes in what it returned before."""
        if name in self.notes:
            return
        before = [old() for old in self.latest.get(name, ())]
        self.latest[name] = [ref(each) for each in tensors_in(output) if each.requires_grad]
        if not any(_is_again(x, old) for x in tensors_in((args, kwargs)) for old in before):
            return
        arguments = named_tensors(_arguments(module, args, kwargs))
        back = [path for path, x in arguments if any(_is_again(x, old) for old in before)]
        if back:
            paths = " or ".join(f"'{path}'" for path in back)
            self.notes[name] = (
                f"not traced: it takes in what it returned the call before, as {paths}. If that "
                f"is its hidden state, say so: watch(model, states={{'{name}': '{back[0]}'}}). "
                "States between modules are marked by h = watched.tap(h, name)"
            )


def of_states(
    label: str,
    calls: Sequence[StateCall],
    truncation_points: tuple[int, ...],
    notes: dict[str, str],
) -> dict[str, Curves]:
    """The curves of states; steps that the loss does not depend on count 0."""
    zeros = (torch.zeros_like(call.end) for call in calls)
    arrived = [c.gradients.get("h", zero) for c, zero in zip(calls, zeros, strict=True)]
    after = torch.stack([call.rows(call.end) for call in calls])  # (T, B, H)
    hidden = torch.stack([call.rows(dh) for call, dh in zip(calls, arrived, strict=True)])
    kind = torch.promote_types(hidden.dtype, torch.float32)
    norms = through_time.hidden_gradient_norms(xp, hidden.to(kind))
    cell = calls[0].cell
    share = through_time.saturated_share(xp, after.to(kind), cell or through_time.UNKNOWN)
    if any(call.end._version != call.version for call in calls):
        notes[label] = OVERWRITTEN
        share = share * torch.nan
    numbers = torch.cat([norms.mean(1), norms.amax(1), share[None].to(kind)])
    curves = Curves(numbers, truncation_points=truncation_points, cell=cell, states_alone=True)
    return {label: curves}


def _is_again(x: torch.Tensor | None, old: torch.Tensor | None) -> bool:
    return x is not None and old is not None and is_same(x, old)


def _arguments(module: nn.Module, args: Any, kwargs: Any) -> Mapping[str, Any]:
    """Return what ``forward`` was given, by the names of its arguments."""
    return inspect.signature(module.forward).bind(*args, **kwargs).arguments
