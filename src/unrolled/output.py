"""Printing helpers: a broken pipe, a closed terminal or a full disk does not stop a training."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from unrolled.errors import RunError

LOST: list[OSError] = []
"""Why standard output can no longer be written, once it cannot; it stays so for the process."""


def silence(stream: TextIO | None) -> None:
    """Drop what a stream holds, and all later output; else Python fails when it ends."""
    with suppress(OSError, ValueError, AttributeError):  # no stream, closed, or not of the system
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        finally:
            os.close(nowhere)


@contextmanager
def muted_stdout() -> Iterator[None]:
    """Keep what libraries in C++ print to standard output off it."""
    try:
        kept = os.dup(1)
    except OSError:  # a process without one
        yield
        return
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def output_lost(error: OSError, more: str = "") -> RunError:
    """The error that standard output is lost."""
    return RunError(f"standard output cannot be written: {error.strerror}{more}")


class Output(io.TextIOBase):
    """Standard output that falls silent when it can no longer be written; see `LOST`."""

    def __init__(self) -> None:
        # while a live line is shown, standard output leads back to who asks here
        self.stream: TextIO | None = getattr(sys.stdout, "rich_proxied_file", sys.stdout)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        if self.stream is None:
            return super().fileno()
        return self.stream.fileno()

    def write(self, text: str) -> int:
        if self.stream is not None:
            with self._unless_lost():
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self.stream is not None:
            with self._unless_lost():
                self.stream.flush()

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            LOST.append(error)
            silence(self.stream)


def printable(text: str) -> str:
    r"""A text on one line, with control characters as escapes.

    Example:
        >>> printable("one\ntwo")
        'one\\ntwo'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
