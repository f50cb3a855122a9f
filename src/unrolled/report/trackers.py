"""Write the records of a training to CSV or TensorBoard, or to a tracker of your own.

A tracker is a small class with `Tracker.log` and `Tracker.close`, attached as a listener::

    class Printed(Tracker):
        def log(self, step, values):
            print(step, values)

    torch.Trainer(max_epochs=3, listeners=[Printed()])

It gets a few numbers under dotted names: ``step.loss``, ``epoch.perplexity``,
``parameters.W_hh.gradient_norm``, ``layers.0.horizon_steps``.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from unrolled.errors import SettingError, did_you_mean
from unrolled.report.downsample import finite
from unrolled.runs.csv_table import Table
from unrolled.runs.events import EventFile
from unrolled.telemetry.records import TelemetryRecord
from unrolled.training.records import EpochRecord, Listener, StepRecord

Values = Mapping[str, float | None]
"""Numbers by name; None where a number was NaN, infinite, or not known."""


def epoch_values(epoch: EpochRecord) -> dict[str, float | None]:
    """The measures of an epoch, where an experiment names no others."""
    return {"loss": epoch.loss, "val_loss": epoch.val_loss}


class Tracker(Listener):
    """Hands the records of a training on; subclasses say where to.

    Args:
        fields: the measures of an epoch by name, beside the norms.
        part: name of the model, where a run trains several; it stands before all names.
    """

    def __init__(
        self,
        fields: Callable[[EpochRecord], Mapping[str, Any]] = epoch_values,
        part: str | None = None,
    ) -> None:
        self.fields = fields
        self.part = part

    def log(self, step: int, values: Values) -> None:
        """Take numbers of a step, from 1; those of its epoch come after its own."""
        raise NotImplementedError(f"{type(self).__name__} must define log(step, values)")

    def close(self) -> None:
        """No more will come."""

    def record(self, record: TelemetryRecord) -> None:
        """Take a record of telemetry; ``watch(model, sink=tracker.record)`` calls it."""
        self.log(record.step, self._named("", flatten(record)))

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        names = ("loss", "gradient_norm", "clipped_norm")
        self.log(step.step, self._named("step.", {name: getattr(step, name) for name in names}))

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self.log(epoch.step, self._named("epoch.", self._epoch(epoch)))

    def _epoch(self, epoch: EpochRecord) -> dict[str, Any]:
        norms = ("gradient_norm", "gradient_norm_max", "clipped_norm")
        measured = {name: getattr(epoch, name) for name in norms}
        return {"epoch": epoch.epoch, **self.fields(epoch), **measured}

    def _named(self, head: str, values: Mapping[str, Any]) -> dict[str, float | None]:
        """Finite numbers only, under full names; what is no number is left out."""
        head = f"{self.part}.{head}" if self.part else head
        return {
            f"{head}{name}": finite(value)
            for name, value in values.items()
            if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        }


def flatten(record: TelemetryRecord, times: bool = False) -> dict[str, float | None]:
    """The numbers of a record under dotted names.

    With ``times`` also those of every time step, as ``layers.0.hidden_gradient_mean.34``.
    """
    found: dict[str, float | None] = {}

    def take(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                take(f"{name}.{key}" if name else key, part)
        elif isinstance(value, list) and times:
            for t, part in enumerate(value):
                take(f"{name}.{t}", part)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value

    data = record.as_dict()
    del data["step"]
    # most layers are called layers.0 already
    data["layers"] = {name.removeprefix("layers."): x for name, x in data["layers"].items()}
    take("", data)
    return found


class Csv(Tracker):
    """Two tables in a run's directory: ``metrics.csv``, a row an epoch, and ``telemetry.csv``.

    The latter has a row for each step with telemetry. Rows of steps that are taken again, as a
    resumed run does, are dropped first.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(**options)
        files = {name: directory / f"{name}.csv" for name in ("metrics", "telemetry")}
        self.tables = {name: Table(file, self.part) for name, file in files.items()}

    def on_batch(self, trainer: Any, step: int) -> bool:
        for table in self.tables.values():
            table.begin(step)
        return False

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        """Steps without telemetry make no row."""

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        # the first event of a run that is resumed after the last step of an epoch: that is kept
        self.tables["telemetry"].begin(epoch.step + 1)
        self._row("metrics", epoch.step, self._epoch(epoch))

    def record(self, record: TelemetryRecord) -> None:
        self._row("telemetry", record.step, flatten(record, times=True))

    def log(self, step: int, values: Values) -> None:
        self._row("metrics", step, values)

    def close(self) -> None:
        for table in self.tables.values():
            table.close()

    def state_dict(self) -> dict[str, list[str]]:
        return {name: list(table.columns) for name, table in self.tables.items()}

    def load_state_dict(self, state: Any) -> None:
        for name, columns in state.items():
            self.tables[name].known = columns

    def _row(self, table: str, step: int, values: Mapping[str, Any]) -> None:
        part = {"part": self.part} if self.part else {}
        gaps = {name: None for name, v in values.items() if isinstance(v, float) and v - v != 0}
        self.tables[table].add({**part, "step": step, **values, **gaps})


class TensorBoard(Tracker):
    """Scalars for TensorBoard, in ``tensorboard/`` of the run: ``tensorboard --logdir runs``.

    A resumed run begins a new file, which tells TensorBoard to forget the steps that follow.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(**options)
        self.file = EventFile(directory / "tensorboard" / (self.part or ""))

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self.file.begin(epoch.step + 1)  # see `Csv.on_epoch`
        super().on_epoch(trainer, epoch)

    def log(self, step: int, values: Values) -> None:
        # a slash makes a group on TensorBoard's page
        tags = {name.replace(".", "/", 1): v for name, v in values.items() if v is not None}
        self.file.add(step, tags)

    def close(self) -> None:
        self.file.close()


TRACKERS: dict[str, Callable[..., Tracker]] = {"csv": Csv, "tensorboard": TensorBoard}
"""By their names on the command line."""


def check(names: Iterable[str]) -> list[Callable[..., Tracker]]:
    """The trackers of these names, to be made with ``(directory, fields=..., part=...)``."""
    for name in names:
        if name not in TRACKERS:
            raise SettingError(f"unknown tracker '{name}': {did_you_mean(name, TRACKERS)}")
    return [TRACKERS[name] for name in dict.fromkeys(names)]
