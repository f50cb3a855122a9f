"""`PendingBackwards` holds what backward passes bring until they are known to count."""

from collections.abc import Iterator
from typing import Any

import torch

MOST_WAITING = 8
"""Backward passes that are remembered; one that raised an error is never counted."""


class PendingBackwards(dict[int, list[tuple[Any, Any]]]):
    """By backward pass (PyTorch's graph task) what it has come to, with what it brought there."""

    def arrive(self, thing: Any, brought: Any = None) -> None:
        """The running backward pass has come to a thing, which has a ``place`` among others."""
        self.setdefault(torch._C._current_graph_task_id(), []).append((thing, brought))
        while len(self) > MOST_WAITING:
            del self[next(iter(self))]

    def take(self, which: int | None) -> Iterator[tuple[Any, list[Any]]]:
        """Give what a pass that counts has come to, in the order of places, with all it brought.

        Args:
            which: the pass; None for all that are waiting.
        """
        for each in list(self) if which is None else [which]:
            brought: dict[Any, list[Any]] = {}
            for thing, part in self.pop(each, ()):
                brought.setdefault(thing, []).append(part)
            yield from sorted(brought.items(), key=lambda item: item[0].place)

    def last(self) -> int | None:
        """The last pass that is not counted so far."""
        return next(reversed(self), None)
