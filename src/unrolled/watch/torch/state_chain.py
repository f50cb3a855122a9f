"""`Sequence`: calls of a recurrent module, each beginning with the state that ended the last."""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch

from unrolled.watch.torch.tree import is_same


@dataclass(eq=False)
class Sequence:
    """Calls of one module, each beginning with the state in which the last one ended.

    Pieces of it that nothing can come of any more are left out: the state of forward passes
    that are never sent back may be handed on for ever.

    Attributes:
        name: of the module.
        batch: of `Recurrences`, in which the gradients were found.
        place: among all sequences, in the order of their beginnings.
        carried: whether its first state comes from an earlier sequence, or a piece left out.
        pieces: the calls between its truncation_points.
        label: its name among the module's sequences; None while no gradient has reached it.
    """

    name: str
    batch: int
    place: int
    carried: bool = False
    pieces: list[list[Any]] = field(default_factory=list)
    label: str | None = None

    @property
    def calls(self) -> list[Any]:
        """All calls, in order."""
        return [call for piece in self.pieces for call in piece]

    @property
    def last(self) -> Any:
        """The last call."""
        return self.pieces[-1][-1]

    @property
    def truncation_points(self) -> tuple[int, ...]:
        """Time steps before which the gradient was cut."""
        lengths = [sum(call.steps for call in piece) for piece in self.pieces]
        starts = [0, *accumulate(lengths[:-1])]
        return tuple(starts if self.carried else starts[1:])

    def add(self, call: Any, cut: bool) -> None:
        """One more call; if its state was cut off, behind a truncation point."""
        if cut:
            while self.pieces and not any(call.counts() for call in self.pieces[0]):
                self.pieces.pop(0)
                self.carried = True
        if cut or not self.pieces:
            self.pieces.append([])
        self.pieces[-1].append(call)

    def goes_on(self, state: torch.Tensor) -> bool:
        """Return whether a call that begins with this state continues the sequence.

        The last state is kept, so nothing else has its memory.
        """
        last = self.last
        return is_same(state, last.end) and not last.packed

    def begin_anew(self, batch: int) -> None:
        """Forget the gradients that an earlier step found by the same graph."""
        self.batch, self.label = batch, None
        for call in self.calls:
            call.gradients = {}


class Ends:
    """The states in which the latest sequences ended: where a later one may have its first from.

    A state that is carried on makes a truncation point; one that is drawn anew for every
    minibatch, or never trained, is a start like zeros. Only the states are kept, not their graphs.

    Args:
        most: sequences of a module.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.known: dict[tuple[str, bool], dict[int, torch.Tensor]] = {}

    def add(self, name: str, place: int, end: torch.Tensor) -> None:
        """The sequence ``place`` of a module has come to this state."""
        # those of a validation must not push out the training's
        known = self.known.setdefault((name, torch.is_grad_enabled()), {})
        known.pop(place, None)
        known[place] = end
        if len(known) > self.most:
            del known[next(iter(known))]

    def has(self, name: str, state: torch.Tensor) -> bool:
        """Whether this state is one of them, at least for one sequence of the batch."""
        known = [end for key in (True, False) for end in self.known.get((name, key), {}).values()]
        return bool(state.any()) and any(_comes_from(state, end) for end in known)


def _comes_from(state: torch.Tensor, end: torch.Tensor) -> bool:
    # nobody else can have got the memory of what is still kept
    if state.untyped_storage().data_ptr() == end.untyped_storage().data_ptr():
        return True
    if state.shape != end.shape or state.device != end.device:
        return False
    return bool(((state == end).all(-1) & state.any(-1)).any())
