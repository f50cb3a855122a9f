"""Append lines of JSON to the files of a running training."""

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from unrolled.errors import RunError
from unrolled.training.records import EpochRecord, Listener


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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open("ab", buffering=0)
        except OSError as error:
            raise unwritten(path, error) from None

    def __call__(self, record: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(record, allow_nan=False)
        except ValueError:  # seldom, so not looked for in every number of every line
            text = json.dumps(writable(record), allow_nan=False)
        left = memoryview((text + "\n").encode())
        begin = self.file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self.file.truncate(begin)
            raise unwritten(self.path, error) from None


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
