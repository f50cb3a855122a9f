"""Read a run directory, whole or damaged: its files, epochs and telemetry, for every command."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unrolled.errors import RunError
from unrolled.telemetry.history import History
from unrolled.telemetry.reading import METRICS, NOTES, TELEMETRY, read_jsonl, which_lines
from unrolled.telemetry.records import TelemetryRecord
from unrolled.untrusted import MOST_EPOCHS, MOST_PARTS, read_json

DAMAGED = (ValueError, TypeError, AttributeError, KeyError, RecursionError, OSError)
"""Errors that reading a damaged file can raise."""


@dataclass
class RecordedRun:
    """A run directory as it was read. Damaged parts are left out, and `problems` names them."""

    path: Path
    config: dict[str, Any] = field(default_factory=dict)  # as the next two; empty where missing
    environment: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    # for the diagnosis, by the name of the model; "" where the run has only one
    histories: dict[str, History] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # what was left out and why
    missing: list[str] = field(default_factory=list)  # files that are not there
    unseen: dict[str, Any] = field(default_factory=dict)  # what a watch could not see and why
    every: int = 1  # of so many records of telemetry one is read

    def read(self) -> "RecordedRun":
        """Read everything; the files of lines line by line, in little memory."""
        for name in ("config", "environment", "summary"):
            setattr(self, name, self.read_dict(f"{name}.json"))
        own = self.summary.pop("notes", {})  # of older versions
        self.unseen = own if isinstance(own, dict) else {}
        if (self.path / NOTES).is_file():
            self.unseen = self.read_dict(NOTES)
        for part, record in self._lines(TELEMETRY, TelemetryRecord.from_dict, self.every):
            self.add_record(part, record)
        for part, line in self._lines(METRICS, _epoch, self._every_epoch()):
            self.history(part).epochs.append(line)
        return self

    def _every_epoch(self) -> int:
        """Return n to read every n-th line of `METRICS`: what is read stays in memory."""
        file = self.path / METRICS
        every = -(-file.stat().st_size // MOST_EPOCHS) if file.is_file() else 1
        if every > 1:
            self.problems.append(f"{METRICS} is long: of {every:,} lines one was read")
        return max(1, every)

    def add_record(self, part: str, record: TelemetryRecord) -> None:
        """Take in a line of ``telemetry.jsonl``."""
        self.history(part).add(record)

    def history(self, part: str) -> History:
        """The history of a model, made when first asked for."""
        if part not in self.histories:
            own = self.summary.get(part) if part else self.summary
            summary = own if isinstance(own, dict) else {}
            self.histories[part] = History(summary if part else summary | {"notes": self.unseen})
        return self.histories[part]

    def read_json(self, name: str) -> Any:
        """The content of a JSON file; None if it is missing or damaged."""
        try:
            return read_json(self.path / name)
        except FileNotFoundError:
            self.missing.append(name)
        except DAMAGED as error:
            self.problems.append(left_out(name, error))
        return None

    def read_dict(self, name: str) -> dict[str, Any]:
        """Return the JSON object that a file holds; an empty one if it holds none."""
        value = self.read_json(name)
        if value is not None and not isinstance(value, dict):
            self.problems.append(f"{name} is damaged and left out: it holds no object")
        return value if isinstance(value, dict) else {}

    def _lines(
        self, name: str, convert: Callable[[dict[str, Any]], Any], every: int
    ) -> Iterator[tuple[str, Any]]:
        """The lines of a file, converted, by their models; what is damaged goes to `problems`."""
        file = self.path / name
        if not file.is_file():
            self.missing.append(name)
            return
        try:
            found, bad = read_jsonl(
                file, lambda line: (self._part(line), convert(line)), every, inside=self.path
            )
        except RunError as error:
            self.problems.append(str(error))
            return
        count = 0
        for each in found:
            count += 1
            yield each
        if bad:
            self.problems.append(f"{name}: {which_lines(bad)} damaged and left out")
        if not count:
            self.problems.append(f"{name} {'holds no whole line' if bad else 'is empty'}")

    def _part(self, line: dict[str, Any]) -> str:
        """The model that a line is about; ``""`` where the run has only one."""
        part = line.get("part") or ""
        if not isinstance(part, str) or (
            part not in self.histories and len(self.histories) >= MOST_PARTS
        ):
            raise ValueError(f"part is {part!r}; one of {MOST_PARTS} names at most is expected")
        return part


def _epoch(line: dict[str, Any]) -> dict[str, Any]:
    """The line itself, or a ValueError if it is of no epoch or step that can be."""
    for name in ("epoch", "step"):
        value = line.get(name, 0)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
    return line


def left_out(name: str, error: Exception) -> str:
    """Say that a file is left out, and why if it is more than damaged."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{name} is left out: {reason}" if reason else f"{name} is damaged and left out"
