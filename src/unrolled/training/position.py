"""`Position` in a loader: minibatches from a place on, and finding it again by a hash."""

import hashlib
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np

from unrolled.backends import Backend
from unrolled.backends.state.generators import load_python_generators, python_generators
from unrolled.data.batching import EpochLoader
from unrolled.errors import ResumeError, SettingError


class Position:
    """The place of a training in its loader's minibatches.

    A loader of ours gives those of an epoch from any place on. One of somebody else's is asked
    for them all again, with the random generators as they were when the epoch began.

    Attributes:
        is_resumable: whether another process is to find the place again.
    """

    def __init__(self, backend: Backend, loader: Any) -> None:
        self.backend = backend
        self.loader = loader
        self.is_resumable = False
        self._generators: Any = None  # when the running epoch began
        self._last_sha256: str | None = None
        self._ahead: Iterable[Any] | None = None

    def make_resumable(self) -> None:
        """Make sure from now on that the place can be found again.

        Raises:
            SettingError: nobody knows whether the loader would give the same once more.
        """
        self.is_resumable = True
        kind = type(self.loader)
        known = EpochLoader, list, tuple
        if not (isinstance(self.loader, known) or self.backend.state.is_replayable(self.loader)):
            raise SettingError(
                f"a training on a {kind.__name__} cannot be gone on with exactly: it is not known "
                "to give the same minibatches again. Give a list of them, or derive it from "
                "unrolled.data.batching.EpochLoader, with minibatches(epoch, start) and "
                "source_arrays()"
            )

    def begin(self, epoch: int) -> None:
        """Begin an epoch, from 0, or go on in it."""
        if isinstance(self.loader, EpochLoader):
            self.loader.epoch = epoch
        elif self.is_resumable and self._ahead is None:
            self._generators = generators(self.backend)

    def minibatches(self, start: int) -> Iterable[Any]:
        """The minibatches of the epoch, beginning with the ``start``-th, from 0."""
        if isinstance(self.loader, EpochLoader):
            return self.loader.minibatches(self.loader.epoch, start)
        batches, self._ahead = self._ahead, None
        return islice(self.loader, start, None) if batches is None else batches

    def state(self, offset: int, last: Any) -> dict[str, Any]:
        """Return the state from which `load_state` finds the place again.

        Args:
            offset: minibatches of the epoch before it.
            last: the last of them; None if another process has seen it.
        """
        loader = self.loader
        if isinstance(loader, EpochLoader):
            return {"seed": loader.seed, "sha256": loader.sha256}
        if offset == 0:
            return {"generators": None, "last_sha256": None}
        sha256 = self._last_sha256 if last is None else self.sha256(last)
        return {"generators": self._generators, "last_sha256": sha256}

    def load_state(self, state: Mapping[str, Any], offset: int) -> None:
        """Find the place again; the generators are left as the loader leaves them."""
        if isinstance(self.loader, EpochLoader):
            self.loader.seed = state["seed"]
        elif offset:
            self._generators = state["generators"]
            load_generators(self.backend, self._generators)
            self._ahead = batches = iter(self.loader)
            *_, last = islice(batches, offset)
            self._last_sha256 = state["last_sha256"]
            if self.sha256(last) != self._last_sha256:
                raise ResumeError(
                    f"the training data differ: minibatch {offset} of the "
                    f"{type(self.loader).__name__} is another than it was; give the same data, in "
                    "the same order"
                )

    def sha256(self, batch: Any) -> str:
        """Hash of a minibatch."""
        found = hashlib.sha256()
        for part in batch:
            plain = isinstance(part, np.ndarray)
            found.update((part if plain else self.backend.to_numpy(part)).tobytes())
        return found.hexdigest()


def generators(backend: Backend) -> dict[str, Any]:
    """The states of all generators that later draws depend on."""
    return {"python": python_generators(), "framework": backend.state.generators()}


def load_generators(backend: Backend, state: Mapping[str, Any]) -> None:
    """Put the generators back."""
    load_python_generators(state["python"])
    backend.state.load_generators(state["framework"])
