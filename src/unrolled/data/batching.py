"""Loaders of minibatches: rows of arrays, or windows of a long sequence.

What an epoch sees is a function of the seed and the epoch's number alone, so that a training
can go on from any minibatch of any epoch.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.checks import checked
from unrolled.data.shards import Corpus, release, windows
from unrolled.data.shuffling import random_order
from unrolled.data.vocabulary import indices
from unrolled.errors import SettingError, TextError

Seed = int | Sequence[int] | None

Places = npt.NDArray[np.int64]

BLOCK, BLOCKS = 2**16, 256
"""Bytes that are looked at together to tell data from others, and how often in an array."""

RELEASE_EVERY = 512
"""Sequences after which the memory of mapped ids is given back. To look at one brings in some
64 kB around it, so these are some 32 MB."""


class EpochLoader:
    """Base class of loaders: iterating gives the minibatches of one epoch after the other.

    Attributes:
        epoch: what the next iteration gives, from 0; one that comes to its end adds 1.
    """

    seed: Sequence[int]
    epoch = 0

    def minibatches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """The minibatches of an epoch, from 0, beginning with the ``start``-th, from 0."""
        raise NotImplementedError(f"{type(self).__name__} must define minibatches(epoch, start)")

    def source_arrays(self) -> Iterator[npt.NDArray[Any] | Corpus]:
        """The arrays that the minibatches are cut out of."""
        raise NotImplementedError(f"{type(self).__name__} must define source_arrays()")

    @cached_property
    def sha256(self) -> str:
        """Hash of the data; of a large array samples are hashed."""
        found = hashlib.sha256()
        for array in self.source_arrays():
            found.update(f"{array.dtype.str} {array.shape}".encode())
            block = max(1, BLOCK // max(1, np.asarray(array[:1]).nbytes))  # rows
            every = max(block, len(array) // BLOCKS)
            for first in range(0, len(array), every):
                found.update(np.ascontiguousarray(array[first : first + block]).tobytes())
        return found.hexdigest()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        yield from self.minibatches(self.epoch)
        self.epoch += 1


def as_seed(seed: Seed) -> list[int]:
    """The whole numbers of a seed; None draws one from the system."""
    if seed is None:
        seed = np.random.SeedSequence().entropy
    return [int(part) for part in (seed if isinstance(seed, Iterable) else [seed])]  # type: ignore[arg-type]


def generator_at(seed: Sequence[int], position: int) -> np.random.Generator:
    """The random generator of an epoch, or of a step."""
    return np.random.default_rng([*seed, position])


class ArrayLoader(EpochLoader):
    """Minibatches of arrays that share their first axis; the last may be smaller.

    Args:
        arrays: NumPy arrays with the same number of rows.
        batch_size: rows of a minibatch.
        shuffle: draw a new order for every epoch.
        asarray: what makes an array of the framework from one of NumPy.
        seed: of the orders; None draws one.

    Raises:
        SettingError: the arrays differ in rows, or ``batch_size`` is below 1.

    Example:
        >>> loader = ArrayLoader([np.arange(5), np.arange(5) ** 2], batch_size=2)
        >>> len(loader), list(loader)[-1]
        (3, (array([4]), array([16])))
    """

    @checked
    def __init__(
        self,
        arrays: Sequence[npt.NDArray[Any]],
        batch_size: int,
        shuffle: bool = False,
        asarray: Callable[[Any], Any] = np.asarray,
        seed: Seed = None,
    ) -> None:
        if len({len(array) for array in arrays}) != 1:
            lengths = ", ".join(str(len(array)) for array in arrays)
            raise SettingError(f"the arrays have {lengths} rows; they must have equally many")
        self.arrays = arrays
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.asarray = asarray
        self.seed = as_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.arrays[0]) / self.batch_size)

    def minibatches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        count, size = len(self.arrays[0]), self.batch_size
        shuffled = self.shuffle
        order = generator_at(self.seed, epoch).permutation(count) if shuffled else np.arange(count)
        for first in range(start * size, count, size):
            rows = order[first : first + size]
            yield tuple(self.asarray(array[rows]) for array in self.arrays)

    def source_arrays(self) -> Iterator[npt.NDArray[Any]]:
        yield from self.arrays


class SequenceLoader(EpochLoader):
    """Minibatches ``(X, Y)`` of ``(B, T)`` ids from one long sequence, ``Y`` one step ahead.

    - Sequential: a random offset in ``[0, T]``, then ``B`` contiguous streams;
      consecutive minibatches continue each other (``continues`` is True), so a
      recurrent state can be carried from one to the next.
    - Random (``use_random_iter``): a random offset in ``[0, T - 1]``, subsequences in
      random order; nothing continues.

    Offset and order are others in every epoch. A minibatch is cut out of the corpus
    when its turn comes; nothing is read or copied before.

    With ``back_steps`` above ``T``, minibatches overlap: ``X (B, back_steps)`` and ``Y (B, T)``,
    the targets of the last ``T`` inputs; the ones before let the gradient reach back. Targets
    still follow each other without overlap.

    Args:
        corpus: ids ``(N,)`` of any integer type: an array, or `Shards`.
        batch_size: ``B``.
        num_steps: ``T``.
        use_random_iter: random instead of sequential.
        asarray: what makes an array of the framework from one of NumPy.
        seed: of offsets and orders; None draws one.
        back_steps: inputs of a sequence; None: ``T``.

    Raises:
        SettingError: ``batch_size`` or ``num_steps`` is below 1, or ``back_steps`` below
            ``num_steps``.
        TextError: the corpus is too short for one minibatch at every offset.

    Example:
        >>> loader = SequenceLoader(np.arange(40), batch_size=2, num_steps=5, seed=0)
        >>> X, Y = next(iter(loader))
        >>> X.shape, bool((Y == X + 1).all())
        ((2, 5), True)
    """

    @checked
    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        num_steps: int,
        use_random_iter: bool = False,
        asarray: Callable[[Any], Any] = np.asarray,
        seed: Seed = None,
        back_steps: int | None = None,
    ) -> None:
        before = 0 if back_steps is None else back_steps - num_steps
        if before < 0:
            raise SettingError(
                f"sequences reach back over back_steps={back_steps} inputs for num_steps="
                f"{num_steps} targets; they must be at least as many"
            )
        self.needs = batch_size * num_steps + num_steps + before
        if not use_random_iter:  # every stream begins so much earlier
            self.needs += 1 + before * (batch_size - 1)
        if len(corpus) < self.needs:
            back = f" that reach back over back_steps={before + num_steps}" if before else ""
            raise TextError(
                f"the text to train on has {len(corpus):,} tokens; minibatches of batch_size="
                f"{batch_size} sequences of num_steps={num_steps}{back} need at least "
                f"{self.needs:,}. Take a longer text, or a smaller batch_size or "
                f"{'back_steps' if before else 'num_steps'}"
            )
        self.corpus = corpus
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.before = before
        self.continues = not use_random_iter
        self.asarray = asarray
        self.seed = as_seed(seed)

    def __len__(self) -> int:
        """Minibatches of an epoch; some offsets give one less."""
        B, T = self.batch_size, self.num_steps
        if self.continues:
            return ((len(self.corpus) - 1) // B - self.before) // T
        return (len(self.corpus) - 1 - self.before) // T // B

    def minibatches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        every = max(1, RELEASE_EVERY // self.batch_size)
        of_epoch = self._sequential if self.continues else self._random
        for number, first in enumerate(of_epoch(generator_at(self.seed, epoch), start)):
            if number % every == 0:
                release(self.corpus)
            XY = windows(self.corpus, first, self.before + self.num_steps + 1)
            X, Y = XY[:, :-1], XY[:, self.before + 1 :]
            yield self.asarray(indices(X)), self.asarray(indices(Y))

    def source_arrays(self) -> Iterator[Corpus]:
        yield self.corpus
        release(self.corpus)

    def _sequential(self, rng: np.random.Generator, start: int) -> Iterator[Places]:
        """Where the inputs of each minibatch begin, ``(B,)``."""
        B, T, before = self.batch_size, self.num_steps, self.before
        offset = int(rng.integers(0, T + 1))
        length = (len(self.corpus) - offset - 1) // B  # of one stream
        streams = offset + np.arange(B, dtype=np.int64) * length
        for t in range(before + start * T, length - T + 1, T):
            yield streams + (t - before)

    def _random(self, rng: np.random.Generator, start: int) -> Iterator[Places]:
        B, T = self.batch_size, self.num_steps
        offset = int(rng.integers(0, T))
        count = (len(self.corpus) - offset - self.before - 1) // T  # subsequences
        order = random_order(count, rng)
        for first in range(start * B, count - B + 1, B):
            yield offset + order[first : first + B].astype(np.int64) * T
