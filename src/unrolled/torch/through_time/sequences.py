"""`Sequence`: calls of a recurrent module, each beginning with the state that ended the last."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from weakref import ref

import torch

MOST_PENDING = 8
"""Backward passes that are remembered; one that raised an error is never counted."""


@dataclass(kw_only=True, eq=False)
class TracedCall:
    """A call of a recurrent module, and the gradients that arrive at what it returned."""

    end: torch.Tensor  # its hidden state after it
    steps: int = 1  # time steps that it read
    packed: bool = False  # whether it read a `PackedSequence`
    # of all backward passes that count, by what they arrived at
    gradients: dict[Any, torch.Tensor] = field(default_factory=dict)
    # whether a gradient can itself be differentiated: the loss reaches the weights another way, too
    second_order: bool = False
    # what the graph calls when a gradient arrives, and alone keeps alive
    listeners: list[ref[Any]] = field(default_factory=list)

    def counts(self) -> bool:
        """Return whether gradients have arrived, or still can."""
        return bool(self.gradients) or any(listener() is not None for listener in self.listeners)

    def add(self, key: Any, gradient: torch.Tensor) -> None:
        """Add a gradient of a backward pass that counts."""
        before = self.gradients.get(key)
        self.gradients[key] = gradient if before is None else before + gradient


@dataclass(eq=False)
class Sequence:
    """Calls of one module, each beginning with the state in which the last one ended."""

    name: str  # of the module
    curves_of: Callable[..., Any]  # computes its curves, see `unrolled.torch.through_time.curves`
    batch: int  # of `Recurrences`, in which the gradients were found
    place: int  # among all sequences, in the order of their beginnings
    carried: bool = False  # whether it begins with the state of an earlier one, or a piece left out
    pieces: list[list[Any]] = field(default_factory=list)  # calls between its truncation points
    label: str | None = None  # among the module's sequences; None while no gradient has reached it

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
            # a state may be handed on for ever without a backward pass
            while self.pieces and not any(call.counts() for call in self.pieces[0]):
                self.pieces.pop(0)
                self.carried = True
        if cut or not self.pieces:
            self.pieces.append([])
        self.pieces[-1].append(call)

    def goes_on(self, state: torch.Tensor) -> bool:
        """Return whether a call that begins with this state continues the sequence."""
        return is_same(state, self.last.end) and not self.last.packed

    def begin_anew(self, batch: int) -> None:
        """Forget the gradients that an earlier step found by the same graph."""
        self.batch, self.label = batch, None
        for call in self.calls:
            call.gradients = {}


class PendingBackwards(dict[int, list[tuple[Any, Any]]]):
    """Gradients by backward pass (PyTorch's graph task), until the pass is known to count."""

    def arrive(self, thing: Any, brought: Any = None) -> None:
        """The running backward pass has come to a thing, which has a ``place`` among others."""
        self.setdefault(torch._C._current_graph_task_id(), []).append((thing, brought))
        while len(self) > MOST_PENDING:
            del self[next(iter(self))]

    def take(self, which: int | None) -> Iterator[tuple[Any, list[Any]]]:
        """Give what a pass (None: any pass) has come to, by place, with all it brought."""
        for each in list(self) if which is None else [which]:
            brought: dict[Any, list[Any]] = {}
            for thing, part in self.pop(each, ()):
                brought.setdefault(thing, []).append(part)
            yield from sorted(brought.items(), key=lambda item: item[0].place)

    def last(self) -> int | None:
        """The last pass that is not counted so far."""
        return next(reversed(self), None)


def is_same(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether two tensors share all of their memory: one may be detached."""
    return x.data_ptr() == y.data_ptr() and x.shape == y.shape
