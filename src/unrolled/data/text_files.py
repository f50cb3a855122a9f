"""`TextFiles`: a text in one file, several, or a folder, which is read in pieces."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from unrolled.data.cleaning import clean_pieces
from unrolled.data.text import (
    check_cleanable,
    check_not_empty,
    check_readable,
    read_pieces,
    readable,
)
from unrolled.data.vocabulary import PIECE, count_characters
from unrolled.errors import TextError

GoingThrough: TypeAlias = Callable[[str, Iterable[Any], int | None], Iterable[Any]]
"""Gives the parts of some work one by one: its arguments are what is done, the parts, and about
how many there are. It may show how far the work is."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a text, and what tells that it has changed: its size and time of change."""

    path: Path
    size: int
    mtime_ns: int


class TextFiles:
    """UTF-8 text files as the source of a `TextData`, however long; iterating gives pieces.

    The files follow each other as ``cat`` would join them, without byte order marks. A folder is
    all files in it and its folders, in the order of their names. Names that begin with a dot are
    left out, as they belong to programs, and so are links, as they may lead anywhere. A path
    that is given may itself be a link.

    Args:
        paths: a file or a folder, or several.
        clean: letters a-z and blanks only, as `unrolled.data.text.clean` does it.
        going_through: what shows how far the work on a large text is.

    Attributes:
        files: all files, as they were found; one that changes later is an error.
        counts: how often each character occurs, in the order of first appearance.

    Raises:
        TextError: a path is missing, not readable, or no regular file, or there are no files. When
            they are read: not UTF-8, empty, not to be cleaned, or changed meanwhile.

    Example:
        >>> from unrolled.data.text import time_machine_path
        >>> text = TextFiles([time_machine_path()] * 2, clean=True)
        >>> text.size, sum(text.counts.values())
        (357958, 341160)
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        clean: bool = False,
        going_through: GoingThrough = lambda what, parts, count: parts,
    ) -> None:
        self.paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self.clean = clean
        self.going_through = going_through
        self.files = [file for path in self.paths for file in files_at(path)]
        if not self.files:
            found = f"folder '{self.paths[0]}' has no text in it" if self.paths else "no text"
            raise TextError(
                f"{found}; name a UTF-8 text file, or a folder of them. Files whose names begin "
                "with a dot are left out, and so are links"
            )

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def name(self) -> str:
        """The paths as they were given, for messages."""
        return ",".join(map(str, self.paths))

    @cached_property
    def counts(self) -> dict[str, int]:
        counts = count_characters(self._shown("counting the characters of the text", self._raw()))
        check_not_empty(self.name, counts)
        if self.clean:
            check_cleanable(counts)
            counts = count_characters(self._shown("counting what cleaning leaves", self))
        return counts

    def pieces(self, what: str) -> Iterable[str]:
        """Return the pieces of the text, and show how far ``what`` is done with them."""
        return self._shown(what, self)

    def __iter__(self) -> Iterator[str]:
        return clean_pieces(self._raw()) if self.clean else self._raw()

    def _shown(self, what: str, pieces: Iterable[str]) -> Iterable[str]:
        return self.going_through(what, pieces, sum(-(-file.size // PIECE) for file in self.files))

    def _raw(self) -> Iterator[str]:
        for file in self.files:
            check_unchanged(file)
            yield from read_pieces(file.path)
            check_unchanged(file)


def files_at(path: str | Path) -> Iterator[SourceFile]:
    """The file of a path, or those of a folder."""
    if not str(path):
        raise TextError("no text is named; name a UTF-8 text file, or a folder of them")
    path = Path(path)
    with readable(path):
        is_folder = path.is_dir()
    if not is_folder:
        yield file_at(path)
        return
    found: list[Path] = []
    for folder, folders, names in os.walk(path, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += (Path(folder, name) for name in names if not name.startswith("."))
    for each in sorted(found, key=lambda file: file.parts):
        if not each.is_symlink():
            yield file_at(each)


def _refuse(error: OSError) -> None:
    with readable(error.filename):
        raise error


def file_at(path: Path) -> SourceFile:
    """A regular file as it is now."""
    with readable(path):
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode):
            raise TextError(
                f"text '{path}' is a pipe, and is not the only text; write it to a file first"
            )
        check_readable(path)
        return SourceFile(path, found.st_size, found.st_mtime_ns)


def check_unchanged(file: SourceFile) -> None:
    """Make sure that a file is as it was found."""
    if file_at(file.path) != file:
        raise TextError(
            f"text '{file.path}' has changed while it was read; start again when it is complete"
        )
