"""What becomes of the records of a watched training: kept, written, handed on, diagnosed."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unrolled.errors import RunError, SettingError
from unrolled.runs.directory import WATCH, RunDirectory
from unrolled.runs.environment import environment
from unrolled.telemetry.diagnose import Finding, diagnose
from unrolled.telemetry.reading import TELEMETRY, read_telemetry
from unrolled.telemetry.records import TelemetryRecord

Sink = Callable[[TelemetryRecord], object]

KEEP = 1000
"""Records kept in memory; some 10 kB each for a model with a recurrent layer."""


class Keeper:
    """Keeps the records of a training, the latest in memory, all in a folder if there is one.

    Args:
        sink: called with every record, as ``list.append`` or a tracker's function. If it raises
            an error, there is a warning, once, and a note, ``notes["sink"]``.
        out: run directory to make: ``telemetry.jsonl`` and what `unrolled report` and
            `unrolled diagnose` need. None writes nothing.
        keep: records kept in memory.
        framework: its name.
        backend: for the record of the environment; None leaves the framework out of it.
        settings: written down in ``config.json``.

    Attributes:
        status: what the summary will say; ``"interrupted"`` if an error ended the ``with`` block.

    Iterating over it gives the records that have come since it was last iterated over (the
    latest ``keep`` of them): ``for record in watched: ...`` now and then in a loop.

    Raises:
        SettingError: ``keep`` is below 1.
        RunError: ``out`` cannot be made or is no empty folder. (A disk that becomes full later
            ends no training: there is a warning and a note, ``notes["out"]``.)
    """

    def __init__(
        self,
        sink: Sink | None,
        out: str | Path | None,
        keep: int,
        framework: str,
        backend: Any = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if keep < 1:
            raise SettingError(f"keep is {keep}; it must be 1 or more")
        self.sink = sink
        self.notes: dict[str, str] = {}
        self.closed = False
        self.status = "finished"
        self._records: deque[TelemetryRecord] = deque(maxlen=keep)
        self._new: deque[TelemetryRecord] = deque(maxlen=keep)
        self._directory: RunDirectory | None = None
        self._head = {"experiment": WATCH, "framework": framework, "seed": None}
        if out is not None:
            self._directory = RunDirectory.create(Path(out))
            config = {**self._head, "settings": dict(settings or {})}
            self._directory.write_json("config.json", config)
            self._directory.write_json("environment.json", environment(backend))
            self._write = self._directory.lines(TELEMETRY)

    def add(self, record: TelemetryRecord) -> None:
        """Keep a record, and hand it on."""
        self._records.append(record)
        self._new.append(record)
        if self._directory is not None:
            self._tell_if_unwritten(lambda: self._write(record.as_dict()))
        if self.sink is not None:
            try:
                self.sink(record)
            except Exception as error:  # a tracker that is down ends no training
                self._tell_of_sink(error, record.step)

    def _tell_of_sink(self, error: Exception, step: int) -> None:
        """Say once that the sink has failed."""
        if "sink" not in self.notes:
            what = f"the sink raised {type(error).__name__} at step {step}: {error}"
            self.notes["sink"] = f"{what}; it is called with the records that follow"
            warnings.warn(f"watch: {self.notes['sink']}", RuntimeWarning, stacklevel=4)

    def _tell_if_unwritten(self, write: Callable[[], None]) -> None:
        """Write to the folder; if its disk is full, say so once and let the training go on."""
        if "out" in self.notes:
            return
        try:
            write()
        except RunError as error:
            self.notes["out"] = f"{error}; from here on nothing is written, records are kept"
            warnings.warn(f"watch: {self.notes['out']}", RuntimeWarning, stacklevel=2)

    def settle(self) -> None:
        """Finish what waits to become a record; nothing here."""

    @property
    def records(self) -> list[TelemetryRecord]:
        """The latest records, the oldest first."""
        self.settle()
        return list(self._records)

    @property
    def last(self) -> TelemetryRecord | None:
        """The latest record; None before the first."""
        self.settle()
        return self._records[-1] if self._records else None

    def __iter__(self) -> Iterator[TelemetryRecord]:
        self.settle()
        while self._new:
            yield self._new.popleft()

    def diagnose(self) -> list[Finding]:
        """Findings in plain words, over all records that were written, or else that are kept."""
        self.settle()
        if self._directory is None or "out" in self.notes:
            return diagnose(self._records, summary={"notes": self.notes})
        records = read_telemetry(self._directory.path / TELEMETRY)[0]
        return diagnose(records, summary={"notes": self.notes})

    def close(self) -> None:
        """End it; a second time does nothing. The records remain."""
        if self.closed:
            return
        self.settle()
        self.closed = True
        if self._directory is not None:
            with self._directory as directory:
                steps = self._records[-1].step if self._records else 0
                summary = {**self._head, "status": self.status, "steps": steps, "notes": self.notes}
                self._tell_if_unwritten(lambda: directory.write_json("summary.json", summary))

    def __enter__(self) -> Self:
        if self.closed:
            raise SettingError("this watch is closed and records nothing more; make a new one")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.status = "interrupted"
        self.close()
