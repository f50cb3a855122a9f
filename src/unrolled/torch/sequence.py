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
