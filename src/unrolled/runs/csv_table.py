"""`Table`: a CSV file that grows by rows and columns, and is cut back when a run is resumed."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from unrolled.errors import RunError

Row = Mapping[str, Any]

TAIL = 2**20
"""Bytes at the end of a file in which the end of the last whole row is looked for."""


class Table:
    """A CSV file that grows by rows; a column that only later rows have is added to all.

    The file is made with the first row. `begin` may drop the rows of one ``part``, a model's.

    Attributes:
        known: the columns at the checkpoint that a run is resumed from. Others that are empty
            after `begin` go. None: all stay.
    """

    def __init__(self, file: Path, part: str | None = None) -> None:
        self.file = file
        self.part = part
        self.columns: list[str] = []
        self.known: Sequence[str] | None = None
        self._begun = False
        self._open: TextIO | None = None

    def begin(self, step: int) -> None:
        """Drop the rows of this step and later ones, which an earlier process has left.

        Only the first call does; `add` makes it if nobody has.
        """
        begun, self._begun = self._begun, True
        if begun or not self.file.exists():
            return
        with self._errors():
            _drop_torn_row(self.file)
            filled: set[str] = set()
            whole = True
            for row in self._rows():
                if self._is_before(step, row):
                    filled.update(name for name, cell in row.items() if cell)
                else:
                    whole = False
            known = self.columns if self.known is None else self.known
            columns = [name for name in self.columns if name in known or name in filled]
            if not whole or columns != self.columns:
                self._rewrite(columns, partial(self._is_before, step))

    def add(self, row: Row) -> None:
        """Append a row, which has a ``step``; None is an empty cell."""
        self.begin(row["step"])
        with self._errors():
            if new := [name for name in row if name not in self.columns]:
                self._rewrite(self.columns + new)
            if self._open is None:
                self._open = self.file.open("a", newline="", encoding="utf-8")
            csv.DictWriter(self._open, self.columns).writerow(row)
            self._open.flush()

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            with suppress(OSError):  # what could not be written was told of when it was
                self._open.close()
            self._open = None

    def _is_before(self, step: int, row: Row) -> bool:
        if self.part is not None and row.get("part") != self.part:
            return True
        try:
            return int(row["step"]) < step
        except (KeyError, TypeError, ValueError):  # not ours: it stays as it is
            return True

    def _rows(self) -> Iterator[Row]:
        if not self.file.exists():
            return
        with self.file.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            self.columns = list(reader.fieldnames or ())
            yield from reader

    def _rewrite(self, columns: list[str], keeps: Callable[[Row], bool] = lambda row: True) -> None:
        """Put another file in its place, with these columns and of the rows those to keep."""
        self.close()
        unfinished = self.file.with_name(f".{self.file.name}.unfinished")
        unfinished.unlink(missing_ok=True)  # it may be a link that somebody has put there
        with unfinished.open("x", newline="", encoding="utf-8") as new:
            writer = csv.DictWriter(new, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(filter(keeps, self._rows()))
        unfinished.replace(self.file)
        self.columns = columns

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"'{self.file}' cannot be written: {error.strerror}") from None
        except (csv.Error, UnicodeDecodeError) as error:
            raise RunError(
                f"'{self.file}' is damaged: {error}; move it away, and it is begun anew"
            ) from None


def _drop_torn_row(file: Path) -> None:
    """Cut off what follows the last end of a line: a process was killed while it wrote."""
    with file.open("r+b") as lines:
        begin = max(0, lines.seek(0, os.SEEK_END) - TAIL)
        lines.seek(begin)
        lines.truncate(begin + lines.read().rfind(b"\n") + 1)
