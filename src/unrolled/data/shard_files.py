"""Write and open a folder of shards: files of ids with ``index.json``, which says what is in them.

`write_shards` writes the index last, and whole: a folder without one does not count.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.data.shards import Shards, map_file
from unrolled.data.vocabulary import Ids, smallest_type
from unrolled.untrusted import open_regular, read_json
from unrolled.writing import sync, write_whole

FORMAT = 1
"""Version of the files, of cleaning and of the order of a vocabulary: what decides about ids."""

INDEX = "index.json"

MOST_IDS = 2**28
"""Ids of a shard."""


def write_shards(
    folder: Path, pieces: Iterable[Ids], counts: Mapping[str, int], about: Mapping[str, Any]
) -> None:
    """Write ids as shards, and then the index; what was in the folder is removed before.

    Args:
        folder: where nobody else writes now.
        pieces: the ids, which are the places of the characters in the `Vocab` of ``counts``.
        counts: how often each character occurs, in the order of first appearance.
        about: what else the index is to say, for people.
    """
    remove_shards(folder)
    dtype = np.dtype(smallest_type(len(counts) + 1))
    try:
        index = {
            "format": FORMAT,
            **about,
            "dtype": dtype.str,
            "ids": sum(counts.values()),
            "shards": list(_write_files(folder, (piece for piece in pieces if len(piece)))),
            "characters": "".join(counts),
            "counts": list(counts.values()),
        }
        text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
        write_whole(folder / INDEX, text.encode())
    except BaseException:  # Ctrl-C, too
        remove_shards(folder)
        raise


def _write_files(folder: Path, pieces: Iterator[Ids]) -> Iterator[dict[str, Any]]:
    """Write the shards; gives of each what the index says of it."""
    piece, number = next(pieces, None), 0
    while piece is not None:
        name, count, digest = f"{number:05}.ids", 0, hashlib.sha256()
        with (folder / name).open("xb") as file:
            while piece is not None and count < MOST_IDS:
                part = piece[: MOST_IDS - count].tobytes()
                file.write(part)
                digest.update(part)
                piece, count = piece[MOST_IDS - count :], min(MOST_IDS, count + len(piece))
                piece = piece if len(piece) else next(pieces, None)
            file.flush()
            sync(file.fileno())
        yield {"name": name, "ids": count, "sha256": digest.hexdigest()}
        number += 1


def open_shards(folder: Path) -> tuple[dict[str, int], Shards] | None:
    """The counts of the characters and the ids of a folder; None: there are none, or damaged ones.

    Sizes are checked before memory is taken. The content of the shards is not looked at: the index
    has their SHA-256.
    """
    with suppress(OSError, ValueError, LookupError, TypeError):
        index = read_json(folder / INDEX, strict=True)
        characters, numbers = index["characters"], index["counts"]
        counts = dict(zip(characters, numbers, strict=True))
        lengths = [shard["ids"] for shard in index["shards"]]
        names = [shard["name"] for shard in index["shards"]]
        dtype = np.dtype(smallest_type(len(counts) + 1))
        if (
            index["format"] == FORMAT
            and index["dtype"] == dtype.str
            and type(characters) is str
            and len(counts) == len(characters)
            and names == [f"{number:05}.ids" for number in range(len(names))]
            and all(type(number) is int and number > 0 for number in [*numbers, *lengths])
            and sum(numbers) == index["ids"] == sum(lengths)
            and all(length == lengths[0] for length in lengths[:-1])
            and lengths[-1] <= lengths[0]
        ):
            files = zip(names, lengths, strict=True)
            parts = [_opened(folder / name, length, dtype) for name, length in files]
            return counts, Shards(parts, folder)
    return None


def _opened(path: Path, length: int, dtype: np.dtype[Any]) -> Ids:
    with open_regular(path, inside=path.parent) as file:
        if os.fstat(file.fileno()).st_size != length * dtype.itemsize:
            raise ValueError(f"'{path}' is of another size than was written")
        return map_file(file.fileno(), dtype)


def remove_shards(folder: Path) -> None:
    """Remove what makes a folder count first, then what a killed process has left, and shards."""
    with suppress(FileNotFoundError):
        (folder / INDEX).unlink()
    for pattern in ("*.ids", f".{INDEX}.*.unfinished"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)
