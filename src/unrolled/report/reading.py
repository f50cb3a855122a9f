"""Read runs for a report: what `unrolled.telemetry.recorded_run` reads, as curves.

Memory does not grow with the length of a run's files.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unrolled.errors import ParameterError, RunError
from unrolled.parameters import read
from unrolled.report.downsample import Line, Spans, finite
from unrolled.report.telemetry import Telemetry
from unrolled.runs.directory import MODEL, VOCABULARY
from unrolled.runs.ending import WATCH
from unrolled.telemetry.reading import METRICS, TELEMETRY
from unrolled.telemetry.recorded_run import RecordedRun
from unrolled.telemetry.records import TelemetryRecord

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
class Run(RecordedRun):
    """A run with its curves.

    Attributes:
        name: what the report calls it.
        metrics, telemetry: curves by the name of the model; ``""`` where the run has only one.
        parameters: the trained values by name.
        vocabulary: the number of tokens; None where there are none.
    """

    name: str = ""
    metrics: dict[str, Metrics] = field(default_factory=dict)
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    vocabulary: int | None = None

    def add_epoch(self, part: str, line: dict[str, Any]) -> None:
        super().add_epoch(part, line)
        self.metrics.setdefault(part, Metrics()).add(line)

    def add_record(self, part: str, record: TelemetryRecord) -> None:
        super().add_record(part, record)
        self.telemetry.setdefault(part, Telemetry()).add(record)

    @property
    def notes(self) -> list[str]:
        """Say what was left out and why, in sentences without a full stop."""
        said = {METRICS: ": there are no curves of the epochs",
                MODEL: ": the run has not kept a model"}  # fmt: skip
        expected = [n for n in self.missing if not (self.experiment == WATCH and n in said)]
        expected = [n for n in expected if n not in (TELEMETRY, VOCABULARY)]
        return [f"{name} is missing{said.get(name, '')}" for name in expected] + self.problems

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
    run = Run(path, name=name)
    size = (path / TELEMETRY).stat().st_size if hurry and (path / TELEMETRY).is_file() else 0
    run.every = max(1, -(-size // HURRY_BYTES))
    if run.every > 1:
        run.problems.append(
            f"{TELEMETRY} is long: of {run.every} records one was read. "
            f"To read them all: unrolled report {path}"
        )
    run.read()
    run.metrics = {part: metrics for part, metrics in run.metrics.items() if metrics.lines}
    if isinstance(tokens := run.read_json(VOCABULARY), list):
        run.vocabulary = len(tokens)
    try:
        run.parameters = read(path / MODEL)[0] if (path / MODEL).is_file() else {}
    except ParameterError:
        run.problems.append(f"{MODEL} is damaged and left out")
    if not (path / MODEL).is_file():
        run.missing.append(MODEL)
    return run


def run_of_records(records: Iterable[TelemetryRecord], name: str) -> Run:
    """A run that is kept in memory alone: that of a watch without a directory."""
    summary = {"status": "kept in memory"}
    run = Run(Path(), {"experiment": WATCH}, summary=summary, name=name)
    for record in records:
        run.add_record("", record)
    return run
