"""Modules written by hand that take in what they gave out the call before."""

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import nn

from unrolled.errors import SettingError, did_you_mean
from unrolled.torch.carried import Carried, batch_axis, is_of_layers, what_came_back
from unrolled.torch.names import named_parts
from unrolled.torch.tensors import tensors_in

if TYPE_CHECKING:
    from unrolled.torch.recurrences import Recurrences

LATE = "a module of one's own is known by its second call"


class OwnStates:
    """Where modules written by hand take in their states.

    Args:
        states: by the module's name the argument of its ``forward``; a dot and a number or key
            stand for a part of it.
        model: that they are in.

    Raises:
        SettingError: there is no such module or argument.
    """

    def __init__(self, states: Mapping[str, str] | None, model: nn.Module) -> None:
        self.paths = {name: str(path).split(".") for name, path in (states or {}).items()}
        modules = dict(named_parts(model)[0]) if self.paths else {}
        for name, (argument, *_) in self.paths.items():
            if name not in modules:
                near = did_you_mean(name, list(modules))
                raise SettingError(f"states names a module '{name}'; the model has none. {near}")
            arguments = list(inspect.signature(modules[name].forward).parameters)
            if argument not in arguments:
                near = did_you_mean(argument, arguments)
                raise SettingError(
                    f"states names an argument '{argument}'; forward of {name} has none. {near}"
                )

    def given(self, name: str, module: Any, args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
        """The tensors that a call was given as its state; all of its inputs, if it is not told."""
        path = self.paths.get(name)
        if path is None:
            yield from tensors_in((args, kwargs))
            return
        part: Any = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        for key in path:
            if isinstance(part, Mapping):
                part = part.get(key)
            elif isinstance(part, (tuple, list)) and key.isdigit() and int(key) < len(part):
                part = part[int(key)]
            else:
                return
        yield from tensors_in(part)


class OwnCells:
    """Finds the states of such modules, and tells of them.

    Args:
        recurrences: told of every state.
        states: where they take them in.

    Attributes:
        latest: by module what its last call has returned, after how many backward passes,
            and what state it began with, if it was the first call.
        places: by module which of its outputs is its state, as soon as that is known.
    """

    def __init__(self, recurrences: "Recurrences", states: OwnStates | None) -> None:
        self.recurrences, self.states = recurrences, states
        self.latest: dict[str, tuple[int, list[Any], torch.Tensor | None]] = {}
        self.places: dict[str, int] = {}

    def after(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module of unknown kind has run: is its state what it gave out the call before?"""
        seen = self.recurrences
        outputs, inputs = list(tensors_in(output)), list(tensors_in((args, kwargs)))
        passes, before, start = self.latest.get(name, (0, [], None))
        given = inputs if self.states is None else self.states.given(name, module, args, kwargs)
        carried = list(what_came_back(before, given, outputs))
        late = passes != seen.passes
        if late:  # what was cut off since is of another minibatch
            start, carried = None, [each for each in carried if each.given.grad_fn is not None]
        owners = {seen.owner(each.old) for each in carried}
        # else it has no state, or one of a module inside it, that is seen already
        if carried and owners <= {None, name}:
            self._add(name, module, carried, inputs, late, start)
            start = None
        else:
            start = self._start(name, inputs)
        self.latest[name] = (seen.passes, [ref(tensor) for tensor in outputs], start)

    def after_unseen(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module has run in a step that is not recorded, the next may be."""
        place = self.places.get(name)
        if place is not None:
            self.recurrences.has_ended(name, list(tensors_in(output))[place - 1])

    def _start(self, name: str, inputs: list[torch.Tensor]) -> torch.Tensor | None:
        """What the first call of a sequence was given, if an earlier sequence ended with it."""
        if name not in self.places:
            return None
        leaves = (x for x in inputs if x.grad_fn is None)
        return next((x.detach() for x in leaves if self.recurrences.is_end(name, x)), None)

    def _add(
        self,
        name: str,
        module: Any,
        carried: list[Carried],
        inputs: list[torch.Tensor],
        late: bool,
        start: torch.Tensor | None,
    ) -> None:
        """One more call of a module written by hand, of which these outputs came back."""
        seen = self.recurrences
        known = carried[0]
        if len(carried) > 1:
            seen.notes[name] = (
                f"not traced: {len(carried)} of its outputs are handed on. Say in which argument "
                f"of its forward the hidden state is: watch(model, states={{'{name}': 'h'}}), of a "
                "tuple's first part 'h.0'"
            )
            return
        is_new = seen.owner(known.old) is None
        if is_new and is_of_layers(known.old, module):
            return
        axis, certain = batch_axis(known.new, _others(inputs, known.given))
        if is_new:
            if late:
                seen.went_back = False
                seen.notes[name] = f"without what the first backward pass brought to it: {LATE}"
            seen.add_state(name, known.old, start, axis)
            self.places[name] = known.place
        if not certain:
            seen.notes[name] = (
                f"its state is {tuple(known.new.shape)}, and its inputs do not tell which axis "
                "is the batch's: the first is taken for it"
            )
        seen.add_state(name, known.new, known.given, axis)


def _others(tensors: list[torch.Tensor], given: torch.Tensor) -> Iterator[torch.Tensor]:
    return (x for x in tensors if x.data_ptr() != given.data_ptr())
