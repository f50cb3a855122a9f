"""`Shards`: the ids of a text in several mapped files as one sequence; `windows` reads any ids."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unrolled.data.vocabulary import Ids


def map_file(file: int, dtype: npt.DTypeLike) -> Ids:
    """The content of an open file, which is not empty, as an array that is mapped."""
    return np.frombuffer(mmap.mmap(file, 0, access=mmap.ACCESS_READ), dtype)


class Shards:
    """Ids of a text in several mapped files, as one sequence. A slice is a view, as of an array.

    ``np.asarray`` reads all of them into memory: take a slice first. All files have equally many
    ids, the last may have fewer; ``places`` is the range of ids that this is a view of.

    Example:
        >>> ids = Shards([np.arange(4), np.arange(4, 7)], Path())
        >>> len(ids), np.asarray(ids[2:6])
        (7, array([2, 3, 4, 5]))
    """

    def __init__(self, parts: Sequence[Ids], folder: Path, places: range | None = None) -> None:
        self.parts = parts
        self.folder = folder
        self.places = range(sum(map(len, parts))) if places is None else places

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, part: slice) -> "Shards":
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise TypeError(f"{part!r} is no slice without steps; take ids[start:stop]")
        return Shards(self.parts, self.folder, self.places[part])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Ids:
        found: Ids = self.windows(np.zeros(1, np.int64), len(self))[0]
        return found.astype(dtype or self.dtype, copy=False)

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> Ids:
        """See `windows`."""
        if len(starts) and not 0 <= starts.min() <= starts.max() <= len(self) - length:
            raise IndexError(f"a window of {length:,} ids begins outside of {len(self):,} ids")
        found = np.empty((len(starts), length), self.dtype)
        for row, start in zip(found, (starts + self.places.start).tolist(), strict=True):
            self._copy(start, row)
        return found

    def _copy(self, start: int, row: Ids) -> None:
        """Fill a row with the ids from a place on, across the ends of files."""
        while len(row):
            number, first = divmod(start, len(self.parts[0]))
            part = self.parts[number][first : first + len(row)]
            row[: len(part)] = part
            row, start = row[len(part) :], start + len(part)


Corpus: TypeAlias = Ids | Shards
"""The ids of a text ``(N,)``: an array, or several mapped files."""


def windows(ids: Corpus, starts: npt.NDArray[np.int64], length: int) -> Ids:
    """The ``length`` ids from each of the starts ``(B,)`` on, as an array ``(B, length)``.

    Nothing else is read. An `IndexError` says that a window ends after the last id.
    """
    if isinstance(ids, Shards):
        return ids.windows(starts, length)
    found: Ids = ids[starts[:, None] + np.arange(length)]
    return found


def release(ids: Corpus) -> None:
    """Give back the memory of those parts of shards that were looked at so far.

    They stay valid: what is looked at again is brought in again. An array is left alone.
    """
    for part in ids.parts if isinstance(ids, Shards) else ():
        base: Any = getattr(part.base, "obj", part.base)  # of a memoryview between the two
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)
