"""Append lines of JSON to the files of a running training."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from unrolled.errors import RunError
from unrolled.training.records import EpochRecord, Listener
from unrolled.untrusted import open_plain
from unrolled.writing import sync

METRICS, TIMINGS = "metrics.jsonl", "timings.jsonl"

CHUNK = 2**20
"""Bytes of a log that are read at once."""


class EpochLog(Listener):
    """Writes measures of every epoch to ``metrics.jsonl``, its timing to ``timings.jsonl``.

    Lines begin with ``part``, the model's name, where a run trains several.
    """

    def __init__(
        self,
        open_lines: Callable[[str], "Lines"],
        fields: Callable[[EpochRecord], dict[str, Any]],
        part: str | None = None,
    ) -> None:
        self.metrics, self.timings = open_lines(METRICS), open_lines(TIMINGS)
        self.fields = fields
        self.head = {} if part is None else {"part": part}

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        where = {**self.head, "epoch": epoch.epoch, "step": epoch.step}
        norms = {
            "gradient_norm": epoch.gradient_norm,
            "gradient_norm_max": epoch.gradient_norm_max,
            "clipped_norm": epoch.clipped_norm,
        }
        not_finite = {"not_finite": epoch.not_finite} if epoch.not_finite else {}
        self.metrics({**where, **self.fields(epoch), **norms, **not_finite})
        timing = {"train_s": epoch.train_s, "targets_per_s": epoch.targets_per_s}
        self.timings({**where, **timing})


class Lines:
    """Appends whole lines to a file; see `RunDirectory.lines`.

    There is no buffer: one that could not be written would fail once more when it is closed.

    Attributes:
        lines: how many the file has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            self.lines, self._hash, _ = _first_lines(file)
            self.file = os.fdopen(file, "ab", buffering=0)  # which goes to the end
        except OSError as error:
            raise unwritten(path, error) from None

    def cut_to(self, lines: int, sha256: str | None = None) -> None:
        """Cut off what follows the first so many lines, those that a checkpoint knows of.

        If there are fewer, or their hash is another, the log is left as it is: a `RunError`.
        """
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        digest, end = _check(self.path, self.file.fileno(), lines, sha256)
        try:
            self.file.truncate(end)
        except OSError as error:
            raise unwritten(self.path, error) from None
        self.lines, self._hash = lines, digest

    @property
    def sha256(self) -> str:
        """Of all bytes of the file, in hexadecimal."""
        return self._hash.hexdigest()

    def __call__(self, record: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(record, allow_nan=False)
        except ValueError:  # seldom, so not looked for in every number of every line
            text = json.dumps(writable(record), allow_nan=False)
        line = (text + "\n").encode()
        left = memoryview(line)
        begin = self.file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self.file.truncate(begin)
            raise unwritten(self.path, error) from None
        self.lines += 1
        self._hash.update(line)

    def sync(self) -> None:
        """Flush what is written to the disk."""
        try:
            sync(self.file.fileno())
        except OSError as error:
            raise unwritten(self.path, error) from None


def first_lines(path: Path, lines: int, sha256: str | None = None) -> bytes:
    """The first so many lines of a log; arguments and errors as of `Lines.cut_to`."""
    try:
        with open(open_plain(path, os.O_RDONLY), "rb") as file:
            _, end = _check(path, file.fileno(), lines, sha256)
            file.seek(0)
            return file.read(end)
    except OSError as error:
        raise RunError(f"'{path}' cannot be read: {error.strerror}") from None


def _check(path: Path, file: int, lines: int, sha256: str | None) -> tuple["hashlib._Hash", int]:
    """Hash and end of the first so many lines of a file, if it has them and they are the same."""
    found, digest, end = _first_lines(file, lines)
    if found < lines:
        what = f"has {found:,} of the {lines:,} lines that the checkpoint knows of"
        raise _other_log(path, what)
    if sha256 not in (None, digest.hexdigest()):
        what = f"has been changed within its first {lines:,} lines"
        raise _other_log(path, f"{what}, those that the checkpoint knows of")
    return digest, end


def _first_lines(file: int, most: float = math.inf) -> tuple[int, "hashlib._Hash", int]:
    """Of the first so many lines of a file: how many there are, their hash, where they end."""
    found, end, digest = 0, 0, hashlib.sha256()
    while found < most and (chunk := os.read(file, CHUNK)):
        count = chunk.count(b"\n")
        if found + count >= most:  # the last of them ends within this chunk
            at = -1
            for _ in range(int(most) - found):
                at = chunk.index(b"\n", at + 1)
            chunk, count = chunk[: at + 1], int(most) - found
        found += count
        end += len(chunk)
        digest.update(chunk)
    return found, digest, end


def _other_log(path: Path, what: str) -> RunError:
    return RunError(f"'{path}' {what}\nTake it from a copy, or run it once more")


def cut(file: Path, size: int) -> None:
    """Take so many bytes off the end of a file of lines, or all; whole lines remain."""
    with suppress(OSError), file.open("r+b") as lines:
        end = max(0, file.stat().st_size - size)
        whole = 0
        for line in lines:
            if whole + len(line) > end:
                break
            whole += len(line)
        lines.truncate(whole)


def writable(value: Any) -> Any:
    """A value that JSON can say: null in the place of NaN and infinity.

    Half characters, as names of files have that are no UTF-8, become what they look like escaped.
    """
    if isinstance(value, Mapping):
        return {key: writable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [writable(part) for part in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def unwritten(path: Path, error: OSError) -> RunError:
    """The error that a file cannot be written."""
    return RunError(f"'{path}' cannot be written: {error.strerror}")
