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
from unrolled.writing import open_plain, sync

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
        self.metrics, self.timings = open_lines("metrics.jsonl"), open_lines("timings.jsonl")
        self.fields = fields
        self.head = {} if part is None else {"part": part}

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        where = {**self.head, "epoch": epoch.epoch, "step": epoch.step}
        norms = {
            "gradient_norm": epoch.gradient_norm,
            "gradient_norm_max": epoch.gradient_norm_max,
            "clipped_norm": epoch.clipped_norm,
        }
        self.metrics({**where, **self.fields(epoch), **norms})
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
            self.file = path.open("ab", buffering=0)
            self.lines, self._hash = 0, hashlib.sha256()
            if self.file.seek(0, os.SEEK_END):
                with path.open("rb") as written:
                    for chunk in iter(lambda: written.read(CHUNK), b""):
                        self.lines += chunk.count(b"\n")
                        self._hash.update(chunk)
        except OSError as error:
            raise unwritten(path, error) from None

    @classmethod
    def resume(cls, path: Path, lines: int, sha256: str | None = None) -> "Lines":
        """Append to a log after its first so many lines; what follows them is cut off.

        Args:
            path: the log.
            lines: how many a checkpoint knows of.
            sha256: of the bytes of these, in hexadecimal; None takes whatever they are.

        Raises:
            RunError: the log is missing, a link or no file, has fewer lines, or others; it is
                left as it is.
        """
        log = cls.__new__(cls)
        log.path = path
        try:
            # without lines it need not be there
            flags = os.O_RDWR | os.O_APPEND | (0 if lines else os.O_CREAT)
            log.file = os.fdopen(open_plain(path, flags), "ab", buffering=0)
        except FileNotFoundError:
            raise _other_log(path, f"is missing; the checkpoint knows of {lines:,} lines") from None
        except OSError as error:
            raise unwritten(path, error) from None
        try:
            log.lines, log._hash, end = _first_lines(log.file.fileno(), lines)
            if log.lines < lines:
                what = f"has {log.lines:,} of the {lines:,} lines that the checkpoint knows of"
                raise _other_log(path, what)
            if sha256 not in (None, log.sha256):
                what = f"has been changed within its first {lines:,} lines"
                raise _other_log(path, f"{what}, those that the checkpoint knows of")
            log.file.truncate(end)
        except OSError as error:
            log.file.close()
            raise unwritten(path, error) from None
        except RunError:
            log.file.close()
            raise
        return log

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


def _first_lines(file: int, lines: int) -> tuple[int, "hashlib._Hash", int]:
    """Of the first so many lines of a file: how many there are, their hash, where they end."""
    found, end, digest = 0, 0, hashlib.sha256()
    os.lseek(file, 0, os.SEEK_SET)
    while found < lines and (chunk := os.read(file, CHUNK)):
        count = chunk.count(b"\n")
        if found + count >= lines:  # the last of them ends within this chunk
            at = -1
            for _ in range(lines - found):
                at = chunk.index(b"\n", at + 1)
            chunk, count = chunk[: at + 1], lines - found
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
