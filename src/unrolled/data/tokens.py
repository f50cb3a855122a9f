"""Encode texts: `encode` gives ids, those of files in a memory-mapped temporary file.

The temporary file has no name: the system takes it back when the process ends.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from unrolled.data.shards import map_file
from unrolled.data.text_files import TextFiles
from unrolled.data.vocabulary import Ids, Vocab
from unrolled.errors import TextError


def encode(text: str | TextFiles, vocab: Vocab) -> Ids:
    """Ids of the characters of a text, of the smallest type; those of a file are mapped."""
    dtype = smallest_type(len(vocab))
    if isinstance(text, str):
        return vocab.encode(text, dtype)
    return mapped(encoded_pieces(text, vocab), dtype)


def encoded_pieces(text: TextFiles, vocab: Vocab) -> Iterator[Ids]:
    """The ids of `encode` piece by piece."""
    encode = vocab.encoder(smallest_type(len(vocab)))
    return map(encode, text.pieces("encoding the text"))


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
