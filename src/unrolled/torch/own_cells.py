"""Modules written by hand that take in what they gave out the call before."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch

from unrolled.torch.carried import Carried, batch_axis, is_of_layers, state_of, what_came_back
from unrolled.torch.tensors import tensors_in

if TYPE_CHECKING:
    from unrolled.torch.recurrences import Recurrences

LATE = "a module of one's own is known by its second call"


class OwnCells:
    """Finds the states of such modules, and tells of them.

    Args:
        recurrences: told of every state.

    Attributes:
        latest: by module what its last call has returned, after how many backward passes,
            and what state it began with, if it was the first call.
        places: by module which of its outputs is its state, as soon as that is known.
    """

    def __init__(self, recurrences: "Recurrences") -> None:
        self.recurrences = recurrences
        self.latest: dict[str, tuple[int, list[Any], torch.Tensor | None]] = {}
        self.places: dict[str, int] = {}

    def after(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module of unknown kind has run: is its state what it gave out the call before?"""
        seen = self.recurrences
        outputs, inputs = list(tensors_in(output)), list(tensors_in((args, kwargs)))
        first, rest = tensors_in(args[:1]), tensors_in((args[1:], kwargs))
        passes, before, start = self.latest.get(name, (0, [], None))
        carried = list(what_came_back(before, first, rest, outputs))
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
        known = next((each for each in carried if seen.owner(each.old) == name), None)
        is_new, alone = known is None, True
        if known is None:
            known, alone = state_of(carried)
            if is_of_layers(known.old, module):
                return
        axis, certain = batch_axis(known.new, _others(inputs, known.given))
        if is_new:
            if late:
                seen.went_back = False
                seen.notes[name] = f"without what the first backward pass brought to it: {LATE}"
            seen.add_state(name, known.old, start, axis)
            self.places[name] = known.place
        if not alone:
            seen.notes[name] = (
                f"several of its outputs are handed on: number {known.place} is looked at"
            )
        if not certain:
            seen.notes[name] = (
                f"its state is {tuple(known.new.shape)}, and its inputs do not tell which axis "
                "is the batch's: the first is taken for it"
            )
        seen.add_state(name, known.new, known.given, axis)


def _others(tensors: list[torch.Tensor], given: torch.Tensor) -> Iterator[torch.Tensor]:
    return (x for x in tensors if x.data_ptr() != given.data_ptr())
