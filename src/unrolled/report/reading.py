"""Runs as their directories hold them: whole, unfinished, or damaged.

A report takes what is whole and says what it left out, with line numbers. Files of lines are
read line by line, so memory does not grow with their length.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from unrolled.errors import ParameterError, RunError
from unrolled.report.telemetry import Telemetry
from unrolled.report.thin import Line, Spans, finite
from unrolled.runs.ending import WATCH
from unrolled.telemetry.history import History
from unrolled.telemetry.reading import (
    METRICS,
    NOTES,
    TELEMETRY,
    read_jsonl,
    read_parts,
    which_lines,
)
from unrolled.telemetry.records import TelemetryRecord

DAMAGED = (ValueError, TypeError, AttributeError, KeyError, RecursionError, OSError)
"""What reading a file that holds something else can raise."""

HURRY_BYTES = 8_000_000
"""Telemetry read at most where a report must be quick, at the end of a run."""


NEVER_MISSING = ("loss", "perplexity", "gradient_norm")
"""Measures that are numbers in every line: null in a file stands for NaN or infinity."""


class Metrics:
    """The lines of ``metrics.jsonl`` of one model: for each measure a curve.

    Attributes:
        fields: curves by the name of the measure, against `x`.
        x: ``"epoch"``, or ``"step"`` where an epoch has several lines.
        not_finite: where the loss or the gradient was not.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._epoch: Any = None
        self._by: dict[str, dict[str, Line]] = {
            "epoch": defaultdict(Line),
            "step": defaultdict(Line),
        }
        self._not_finite = {"epoch": Spans(), "step": Spans()}
        self._repeated = False

    def add(self, data: dict[str, Any]) -> None:
        """Take in a line; one that says neither epoch nor step has no place in a curve."""
        places = {name: finite(data.get(name)) for name in ("epoch", "step")}
        if all(x is None for x in places.values()):
            return
        self.lines += 1
        self._repeated |= places["epoch"] is None or places["epoch"] == self._epoch
        self._epoch = places["epoch"]
        bad = any(name in data and finite(data[name]) is None for name in NEVER_MISSING)
        for place, x in places.items():
            if x is not None:
                self._not_finite[place].add(x, bad)
        for name, value in data.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name in places or not (is_number or value is None):
                continue
            for place, x in places.items():
                if x is not None:
                    self._by[place][name].add(x, finite(value))

    @property
    def x(self) -> str:
        return "step" if self._repeated and self._by["step"] else "epoch"

    @property
    def fields(self) -> dict[str, Line]:
        return self._by[self.x]

    @property
    def not_finite(self) -> Spans:
        return self._not_finite[self.x]


@dataclass
class Run:
    """What is left of one run.

    Attributes:
        path: its directory.
        name: what the report calls it.
        config, environment, summary: the files of these names; empty where missing.
        metrics, telemetry: by the name of the model; ``""`` where the run has only one.
        histories: the same for the diagnosis, which is made from one reading.
        parameters: the trained values by name.
        vocabulary: the number of tokens; None where there are none.
        notes: what was left out and why.
        unseen: what a watch could not see and why, by name.
        every: of so many records of telemetry one was read.
    """

    path: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Metrics] = field(default_factory=dict)
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    vocabulary: int | None = None
    notes: list[str] = field(default_factory=list)
    unseen: dict[str, Any] = field(default_factory=dict)
    every: int = 1

    @property
    def experiment(self) -> str:
        return str(self.config.get("experiment") or self.summary.get("experiment") or "unknown")

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as they were used, framework and seed among them."""
        head = {key: self.config[key] for key in ("framework", "seed") if key in self.config}
        parts = [self.config.get(key) for key in ("settings", "used")]
        return head | {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}


def read_runs(paths: Sequence[Path], hurry: bool = False) -> list[Run]:
    """Read runs; each is called by the shortest end of its path that no other has.

    Args:
        paths: run directories.
        hurry: of very long telemetry read a part only.

    Raises:
        RunError: a path is no run directory.
    """
    full = [path.resolve() for path in paths]
    if twice := [str(path) for i, path in enumerate(paths) if full[i] in full[:i]]:
        raise RunError(f"named twice: {', '.join(twice)}; name each run once")
    length = 1
    names = [path.name for path in full]
    while len(set(names)) < len(names):
        length += 1
        names = ["/".join(path.parts[-length:]) for path in full]
    return [read_run(path, name, hurry) for path, name in zip(paths, names, strict=True)]


def read_run(path: Path, name: str, hurry: bool = False) -> Run:
    """Read one run.

    Raises:
        RunError: it is no run directory.
    """
    if not any((path / file).is_file() for file in ("config.json", "metrics.jsonl")):
        what = "holds neither config.json nor metrics.jsonl" if path.is_dir() else "does not exist"
        raise RunError(
            f"'{path}' is not a run directory: it {what}. "
            "Name a directory that `unrolled run` has made"
        )
    run = Run(path, name)
    for file in ("config", "environment", "summary"):
        setattr(run, file, _read_dict(run, f"{file}.json"))
    own = run.summary.pop("notes", {})  # of older versions
    run.unseen = own if isinstance(own, dict) else {}
    if (path / NOTES).is_file():
        run.unseen = _read_dict(run, NOTES)
    vocabulary = path / "vocabulary.json"
    if vocabulary.is_file() and isinstance(tokens := _read_json(run, vocabulary.name), list):
        run.vocabulary = len(tokens)
    for data in _lines(run, METRICS, read_jsonl):
        part = str(data.get("part") or "")
        run.metrics.setdefault(part, Metrics()).add(data)
        _history(run, part).epochs.append(data)
    run.metrics = {part: metrics for part, metrics in run.metrics.items() if metrics.lines}
    for part, record in _lines(run, TELEMETRY, _telemetry_reader(run, hurry)):
        run.telemetry.setdefault(part, Telemetry()).add(record)
        _history(run, part).add(record)
    _read_parameters(run)
    return run


def run_of_records(records: Iterable[TelemetryRecord], name: str) -> Run:
    """A run that is kept in memory alone: that of a watch without a directory."""
    summary = {"status": "kept in memory"}
    run = Run(Path(), name, {"experiment": WATCH}, summary=summary)
    for record in records:
        run.telemetry.setdefault("", Telemetry()).add(record)
        _history(run, "").add(record)
    return run


def _history(run: Run, part: str) -> History:
    if part not in run.histories:
        own = run.summary.get(part) if part else run.summary
        run.histories[part] = History(own if isinstance(own, dict) else {})
    return run.histories[part]


def _telemetry_reader(run: Run, hurry: bool) -> Any:
    file = run.path / TELEMETRY
    size = file.stat().st_size if hurry and file.is_file() else 0
    run.every = max(1, -(-size // HURRY_BYTES))
    if run.every > 1:
        run.notes.append(
            f"{TELEMETRY} is long: of {run.every} records one was read. "
            f"To read them all: unrolled report {run.path}"
        )
    return partial(read_parts, every=run.every)


def _lines(run: Run, name: str, read: Any) -> Iterator[Any]:
    file = run.path / name
    if not file.is_file():
        if name == METRICS and run.experiment != WATCH:
            run.notes.append(f"{name} is missing: there are no curves of the epochs")
        return
    found, bad = read(file)
    count = 0
    for each in found:
        count += 1
        yield each
    if bad:
        run.notes.append(f"{name}: {which_lines(bad)} damaged and left out")
    if not count:
        run.notes.append(f"{name} {'holds no whole line' if bad else 'is empty'}: nothing to draw")


def _read_json(run: Run, name: str) -> Any:
    try:
        return json.loads((run.path / name).read_bytes())
    except FileNotFoundError:
        run.notes.append(f"{name} is missing")
    except DAMAGED:
        run.notes.append(f"{name} is damaged and left out")
    return None


def _read_dict(run: Run, name: str) -> dict[str, Any]:
    value = _read_json(run, name)
    if value is not None and not isinstance(value, dict):
        run.notes.append(f"{name} is damaged and left out: it holds no object")
    return value if isinstance(value, dict) else {}


def _read_parameters(run: Run) -> None:
    from unrolled.parameters import read
    from unrolled.runs.directory import MODEL

    if not (run.path / MODEL).is_file():
        if run.experiment != WATCH:
            run.notes.append(f"{MODEL} is missing: the run has not kept a model")
        return
    try:
        run.parameters = read(run.path / MODEL)[0]
    except ParameterError:
        run.notes.append(f"{MODEL} is damaged and left out")
