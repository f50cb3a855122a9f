"""Read runs for a report: what `unrolled.telemetry.recorded_run` reads, made into curves."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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


MOST_MEASURES = 100
"""Measures of an epoch that are drawn."""

NEVER_MISSING = ("loss", "perplexity", "gradient_norm")
"""Measures that are numbers in every line: null in a file stands for NaN or infinity."""


class Metrics:
    """The lines of ``metrics.jsonl`` of one model: for each measure a curve.

    They are drawn against ``"epoch"``, or against ``"step"`` where an epoch has several lines.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        lines = [line for line in lines if _place(line, "epoch", "step") is not None]
        epochs = [_place(line, "epoch") for line in lines]
        repeated = any(b is None or a == b for a, b in zip([None, *epochs], epochs, strict=False))
        has_steps = any(_place(line, "step") is not None for line in lines)
        self.x = "step" if repeated and has_steps else "epoch"
        self.fields: dict[str, Line] = defaultdict(Line)  # by the name of the measure
        self.not_finite = Spans()  # where the loss or the gradient was not
        for line in lines:
            x = _place(line, self.x)
            if x is not None:
                self._add(x, line)

    def _add(self, x: float, line: Mapping[str, Any]) -> None:
        bad = any(name in line and finite(line[name]) is None for name in NEVER_MISSING)
        self.not_finite.add(x, bad)
        for name, value in line.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name in ("epoch", "step") or not (is_number or value is None):
                continue
            if name in self.fields or len(self.fields) < MOST_MEASURES:
                self.fields[name].add(x, finite(value))


def _place(line: Mapping[str, Any], *names: str) -> float | None:
    """The first finite number of these names."""
    return next((x for name in names if (x := finite(line.get(name))) is not None), None)


@dataclass
class Run(RecordedRun):
    """A run with its curves, by the name of the model; ``""`` where the run has only one."""

    name: str = ""  # what the report calls it
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)  # the trained values by name
    vocabulary: int | None = None  # the number of tokens
    metrics: dict[str, Metrics] = field(default_factory=dict)

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
    """Read runs; each is called by the shortest end of its path that no other has."""
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
    """Read one run; in a hurry only a part of very long telemetry."""
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
    found = {part: Metrics(history.epochs) for part, history in run.histories.items()}
    run.metrics = {part: metrics for part, metrics in found.items() if metrics.fields}
    if isinstance(tokens := run.read_json(VOCABULARY), list):
        run.vocabulary = len(tokens)
    try:
        run.parameters = read(path / MODEL, path)[0] if (path / MODEL).is_file() else {}
    except ParameterError as error:
        link = "outside its directory" in str(error)
        run.problems.append(str(error) if link else f"{MODEL} is damaged and left out")
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
