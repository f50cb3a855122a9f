"""`NamedStates` traces the modules that ``watch(model, states=...)`` names."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import nn

from unrolled.errors import SettingError, did_you_mean
from unrolled.torch.parameter_names import named_parts
from unrolled.watch.torch.recurrences import Recurrences
from unrolled.watch.torch.tree import is_same, named_tensors, part_at, tensors_in

States = Mapping[str, str | tuple[str, int]]
"""By module the argument with its state; with a number, which axis of it is the batch."""


@dataclass(frozen=True)
class NamedState:
    """Where a module takes in its state.

    Attributes:
        module: the module.
        path: the argument of its ``forward``, and the part of it.
        axis: the batch's axis of the state; None if it was not told.
    """

    module: nn.Module
    path: str
    axis: int | None


def check_states(states: States | None, model: nn.Module) -> dict[str, NamedState]:
    """Check the names of modules and arguments; what they name, by module.

    Raises:
        SettingError: there is no such module or argument.
    """
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


class NamedStates:
    """Adds the states that modules written by hand hand on to the recurrences.

    Args:
        named: from `check_states`.
        recurrences: where the states go.

    Attributes:
        places: by module which of its outputs is the state, as soon as that is known.
        latest: by module what its last call returned, with the state that it was given and the
            number of backward passes until then.
    """

    def __init__(self, named: dict[str, NamedState], recurrences: Recurrences) -> None:
        self.named, self.recurrences = named, recurrences
        self.places: dict[str, int] = {}
        self.latest: dict[str, tuple[list[Any], torch.Tensor | None, int]] = {}

    def after(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module has run whose state is named."""
        path, axis = self.named[name].path, self.named[name].axis
        given = list(tensors_in(part_at(_arguments(module, args, kwargs), path)))
        if len(given) > 1:
            self.recurrences.notes[name] = (
                f"not traced: '{path}' holds {len(given)} tensors; name one, as '{path}.0'"
            )
            return
        state, outputs = given[0] if given else None, list(tensors_in(output))
        if name not in self.places and not self._find(name, state, outputs, axis or 0):
            return
        new = outputs[self.places[name]]
        if axis is None and new.dim() == 3:
            self.recurrences.notes[name] = (
                f"its state is {tuple(new.shape)}, and the first axis is taken as that of the "
                f"batch. If it is another: watch(model, states={{'{name}': ('{path}', 1)}})"
            )
        self.recurrences.add_state(name, new, state, axis or 0)

    def are_in(self, module: nn.Module) -> bool:
        """Return whether a module has modules in it whose states are named."""
        parts = list(module.modules())
        return any(state.module is part for state in self.named.values() for part in parts)

    def after_unseen(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """It has run in a step that is not recorded; the next may be."""
        if name in self.places:
            self.recurrences.has_ended(name, list(tensors_in(output))[self.places[name]])

    def _find(
        self, name: str, state: torch.Tensor | None, outputs: list[torch.Tensor], axis: int
    ) -> bool:
        """Find out which output is the state: of several the one that the next call is given."""
        if len(outputs) == 1:
            self.places[name] = 0
            return True
        earlier, before, passes = self.latest.pop(name, ([], None, 0))
        olds = [(i, old) for i, pointer in enumerate(earlier) if (old := pointer()) is not None]
        back = [(i, old) for i, old in olds if state is not None and is_same(old, state)]
        if not back:
            self.latest[name] = [ref(each) for each in outputs], state, self.recurrences.passes
            return False
        place, old = back[0]
        self.places[name] = place
        if passes == self.recurrences.passes:
            self.recurrences.add_state(name, old, before, axis)
        else:
            self.recurrences.notes[name] = "its first time step is missing in the first record"
        return True


class UnnamedStates:
    """Notes modules that take in what they returned the call before, and that nobody has named.

    Args:
        notes: where to say how to name their states.
    """

    def __init__(self, notes: dict[str, str]) -> None:
        self.notes = notes
        self.latest: dict[str, list[Any]] = {}

    def after(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module of unknown kind has run."""
        if name in self.notes:
            return
        before = [old for pointer in self.latest.get(name, ()) if (old := pointer()) is not None]
        self.latest[name] = [ref(each) for each in tensors_in(output) if each.requires_grad]
        if not any(is_same(x, old) for x in tensors_in((args, kwargs)) for old in before):
            return
        arguments = named_tensors(_arguments(module, args, kwargs))
        back = [path for path, x in arguments if any(is_same(x, old) for old in before)]
        if back:
            paths = " or ".join(f"'{path}'" for path in back)
            self.notes[name] = (
                f"not traced: it takes in what it returned the call before, as {paths}. If that "
                f"is its hidden state, say so: watch(model, states={{'{name}': '{back[0]}'}}). "
                "States between modules are marked by h = watched.tap(h, name)"
            )


def _arguments(module: nn.Module, args: Any, kwargs: Any) -> Mapping[str, Any]:
    """Return what ``forward`` was given, by the names of its arguments."""
    return inspect.signature(module.forward).bind(*args, **kwargs).arguments
