"""Calls of a recurrent module that hand their state to the next."""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(eq=False)
class Sequence:
    """Calls of one module, each beginning with the state in which the last one ended.

    Attributes:
        name: of the module.
        batch: of `Recurrences`, in which the gradients were found.
        place: among all sequences, in the order of their beginnings.
        label: its name among the module's sequences; None while no gradient has reached it.
    """

    name: str
    batch: int
    place: int
    calls: list[Any] = field(default_factory=list)
    borders: list[int] = field(default_factory=list)
    length: int = 0
    label: str | None = None

    def goes_on(self, state: torch.Tensor, mark: int) -> bool:
        """Whether a call that begins with this state continues the sequence."""
        last = self.calls[-1]
        return mark == last.end.data_ptr() and state.shape == last.end.shape and not last.packed

    def begin_anew(self, batch: int) -> None:
        """Forget the gradients that an earlier step found by the same graph."""
        self.batch, self.label = batch, None
        for call in self.calls:
            call.gradients = {}


class Ends:
    """The states in which the latest sequences ended: where a later one may have its first from.

    A state that is carried on makes a border; one that is drawn anew for every minibatch, or
    never trained, is a start like zeros. Only the states are kept, not their graphs.

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
        return any(_comes_from(state, end) for end in known)


def _comes_from(state: torch.Tensor, end: torch.Tensor) -> bool:
    # nobody else can have got the memory of what is still kept
    if state.untyped_storage().data_ptr() == end.untyped_storage().data_ptr():
        return True
    if state.shape != end.shape or state.device != end.device:
        return False
    return bool(((state == end).all(-1) & state.any(-1)).any())
