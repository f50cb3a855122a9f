"""`RecordStore` keeps the records of a watched training, writes its run, and diagnoses it."""

import re
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unrolled.errors import RunError, SettingError
from unrolled.locking import LOCK, give_back, hold, release
from unrolled.runs.directory import RunDirectory
from unrolled.runs.ending import WATCH
from unrolled.telemetry import showing
from unrolled.telemetry.diagnose import Finding, diagnose
from unrolled.telemetry.reading import NOTES, TELEMETRY, read_telemetry
from unrolled.telemetry.records import TelemetryRecord

Sink = Callable[[TelemetryRecord], object]

KEEP = 1000
"""Records kept in memory; some 10 kB each for a model with a recurrent layer."""


class RecordStore:
    """Keeps the records of a training, the latest in memory, all in a folder if there is one.

    Args:
        sink: called with every record, as ``list.append`` or a tracker's function. If it raises
            an error, there is a warning, once, and a note, ``notes["sink"]``.
        out: run directory to make: ``telemetry.jsonl`` and what `unrolled report` and
            `unrolled diagnose` need. If it holds something, the next free name is taken
            (``mine-2``), and a warning says so. None writes nothing.
        keep: records kept in memory.
        framework: its name.
        backend: for the record of the environment; None leaves the framework out of it.
        settings: written down in ``config.json``.
        overwrite: replace a run that ``out`` holds.

    Attributes:
        status: what the summary will say; ``"interrupted"`` if an error ended the ``with`` block.

    Iterating over it gives the records that have come since it was last iterated over (the
    latest ``keep`` of them): ``for record in watched: ...`` now and then in a loop.

    Raises:
        SettingError: ``keep`` is below 1.
        RunError: ``out`` cannot be made, or what is to be replaced is no run. (A disk that becomes
            full later ends no training: there is a warning and a note, ``notes["out"]``.)
    """

    def __init__(
        self,
        sink: Sink | None,
        out: str | Path | None,
        keep: int,
        framework: str,
        backend: Any = None,
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
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
            self._directory = make_directory(Path(out), overwrite)
            with self._directory.all_or_nothing():
                self._directory.begin({**self._head, "settings": dict(settings or {})}, backend)
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
                what = f"the sink raised {type(error).__name__} at step {record.step}: {error}"
                self.tell("sink", f"{what}; it is called with the records that follow")

    def tell(self, name: str, text: str) -> None:
        """Warn, once for each name, of what keeps records from being made; and note it."""
        if name not in self.notes:
            self.note(name, text)
            warnings.warn(f"watch: {text}", RuntimeWarning, stacklevel=2)

    def note(self, name: str, text: str) -> None:
        """Add a note, and write it to the run at once: the process may be killed."""
        self.notes[name] = text
        self.write_notes()

    def write_notes(self) -> None:
        """Write down the notes as they are now."""
        if (directory := self._directory) is not None:
            self._tell_if_unwritten(lambda: directory.write_json(NOTES, self.notes))

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
                summary = {**self._head, "status": self.status, "steps": steps}
                self.write_notes()
                self._tell_if_unwritten(lambda: directory.end(summary))

    @property
    def path(self) -> Path | None:
        """The run directory that is written, None if there is none."""
        return None if self._directory is None else self._directory.path

    def __repr__(self) -> str:
        return showing.lines(*self._facts())

    def _repr_html_(self) -> str:
        return showing.table(*self._facts())

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        """A title and facts: the latest record, where records go, and the notes."""
        last, state = self.last, "closed" if self.closed else "open"
        made = "no record so far" if last is None else f"step {last.step:,}"
        facts = [] if last is None else [*showing.record_facts(last).items()]
        facts += [] if self.path is None else [("written to", str(self.path))]
        facts += [(f"note on {name}", text) for name, text in self.notes.items()]
        return f"watch ({state}): {made}", facts

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


def make_directory(path: Path, overwrite: bool) -> RunDirectory:
    """A new run directory, under the next free name if it may not replace what is there."""
    if path.exists() and not path.is_dir():
        raise RunError(f"'{path}' is a file; give a directory as out")
    if overwrite and _is_taken(path):
        _remove_run(path)
    try:
        try:
            directory = RunDirectory.create(path)
        except RunError:
            if overwrite or not _is_taken(path):
                raise
            directory = RunDirectory.create_next(path.parent, re.sub(r"-\d+$", "", path.name), 2)
    except RunError as error:
        raise _in_python(error) from None
    if directory.path != path:
        what = f"'{path}' already holds something: this run is written to '{directory.path}'"
        warnings.warn(f"watch: {what}; overwrite=True replaces a run", RuntimeWarning, stacklevel=5)
    return directory


def _is_taken(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _in_python(error: RunError) -> RunError:
    """The error with advice for Python, in the place of that for the command line."""
    what, _, _ = str(error).rpartition(";")
    return RunError(f"{what}; give another directory as out")


def _remove_run(path: Path) -> None:
    """Remove all that a run directory holds."""
    try:
        RunDirectory(path).read_config()
    except RunError:
        raise RunError(
            f"'{path}' holds files that are no run: overwrite=True replaces only runs; give "
            "another directory as out"
        ) from None
    release(path)  # of a watch in this process that is not closed: a notebook's cell runs again
    try:
        hold(path)
    except RunError as error:
        raise _in_python(error) from None
    try:
        for each in path.iterdir():
            if each.name == LOCK:
                continue
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
    except OSError as error:
        give_back(path)
        raise RunError(f"'{path}' cannot be replaced: {error.strerror}") from None
    release(path)
