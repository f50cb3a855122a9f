"""What backward passes have come to, until it is known whether they count."""

from collections.abc import Iterator
from typing import Any

import torch

MOST_WAITING = 8
"""Backward passes that are remembered; one that raised an error is never counted."""


class PendingBackwards(dict[int, list[Any]]):
    """By backward pass (PyTorch's graph task) the things with a ``place`` that it has come to."""

    def arrive(self, thing: Any) -> int:
        """The running backward pass, which has come to this thing."""
        running: int = torch._C._current_graph_task_id()
        reached = self.setdefault(running, [])
        if thing not in reached[-1:]:
            reached.append(thing)
        while len(self) > MOST_WAITING:
            del self[next(iter(self))]
        return running

    def take(self, which: int | None) -> Iterator[tuple[int, Any]]:
        """What a pass that counts has come to, each once and in order, with the pass itself.

        Args:
            which: the pass; None for all that are waiting.
        """
        for each in list(self) if which is None else [which]:
            for thing in sorted(set(self.pop(each, ())), key=lambda thing: thing.place):
                yield each, thing

    def last(self) -> int | None:
        """The last pass that is not counted so far."""
        return next(reversed(self), None)
