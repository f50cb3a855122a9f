"""Encode texts larger than memory: read in pieces, ids in a memory-mapped temporary file.

The temporary file has no name: the system takes it back when the process ends.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from unrolled.data.cleaning import clean_pieces
from unrolled.data.shards import map_file
from unrolled.data.text import check_cleanable, check_not_empty, read_pieces
from unrolled.data.vocabulary import Ids, Vocab, count_characters
from unrolled.errors import TextError


class TextFile:
    """A UTF-8 text file as the source of a `TextData`, however long; iterating gives pieces.

    Args:
        path: the file.
        clean: letters a-z and blanks only, as `unrolled.data.text.clean` does it.

    Attributes:
        counts: how often each character occurs, in the order of first appearance.

    Raises:
        TextError: missing, a directory, not readable, not UTF-8, empty, or not to be
            cleaned.
    """

    def __init__(self, path: str | Path, clean: bool = False) -> None:
        self.path = Path(path)
        self.clean = clean
        self.counts = count_characters(read_pieces(self.path))
        check_not_empty(self.path, self.counts)
        if clean:
            check_cleanable(self.counts)
            self.counts = count_characters(self)

    def __iter__(self) -> Iterator[str]:
        pieces = read_pieces(self.path)
        return clean_pieces(pieces) if self.clean else pieces


def encode(text: str | TextFile, vocab: Vocab) -> Ids:
    """Ids of the characters of a text, of the smallest type; those of a file are mapped."""
    dtype = smallest_type(len(vocab))
    if isinstance(text, str):
        return vocab.encode(text, dtype)
    return mapped(map(vocab.encoder(dtype), text), dtype)


def smallest_type(count: int) -> npt.DTypeLike:
    """The smallest type for the numbers from 0 to ``count - 1``."""
    return np.min_scalar_type(max(count - 1, 0))


def mapped(pieces: Iterable[npt.NDArray[Any]], dtype: npt.DTypeLike) -> Ids:
    """The pieces one after the other in a temporary file, as one array that is mapped."""
    folder = temporary_folder()
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for piece in pieces:
                write_all(file, piece.tobytes())
            if not file.tell():
                return np.empty(0, dtype)
            return map_file(file.fileno(), dtype)
    except OSError as error:
        raise TextError(
            f"there is no room for the ids of the text in '{folder}': {error.strerror}. Name a "
            "folder that has room for as many bytes as the text has: TMPDIR=FOLDER unrolled ..."
        ) from None


def write_all(file: IO[bytes], data: bytes) -> None:
    """All of the data, also where the system takes a part of it at a time."""
    while data:
        data = data[file.write(data) :]


def temporary_folder() -> str:
    """Where large temporary files belong: ``TMPDIR`` if it is set, else on a disk.

    The usual temporary folder is memory on many systems; ``/var/tmp`` never is.
    """
    chosen = os.environ.get("TMPDIR") or "/var/tmp"
    return chosen if os.access(chosen, os.W_OK | os.X_OK) else tempfile.gettempdir()


def indices(ids: Ids) -> npt.NDArray[np.int64]:
    """Ids of the type that all frameworks take to look rows up by.

    A minibatch is converted when it is used: the whole text stays as small as it is.
    """
    return ids.astype(np.int64, copy=False)
