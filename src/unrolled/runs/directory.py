"""A run directory: everything about one run, in files that other programs can read.

==================  ==============================================================
``config.json``     experiment, framework, seed, all settings; what open ones came to
``environment.json``  when and by which command, how long it took, versions, machine, threads
``metrics.jsonl``   one line an epoch; the same seed gives the same bytes
``telemetry.jsonl`` one line every n-th step, a `unrolled.telemetry.TelemetryRecord`
``notes.json``      what a watch could not see, and why
``timings.jsonl``   how long each epoch took; differs from run to run
``vocabulary.json`` the tokens by id (language models only)
``model.safetensors``  the trained parameters by name
``summary.json``    the result
``checkpoints/``    what the run goes on from, see `unrolled.training.checkpointing`
``running.lock``    held by the process while it runs, see `unrolled.locking`
==================  ==============================================================

A run that trains several models, its parts, tells them apart: their lines begin with
``"part"``, and in ``model.safetensors`` the part and a dot stand before the names.

Every file but the logs is written whole or not at all, and of a log every line.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os.path import lexists
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from unrolled.backends import Backend
from unrolled.checkpoints.folder import FULL
from unrolled.errors import ParameterError, RunError, did_you_mean
from unrolled.locking import give_back, hold, release
from unrolled.parameters import read, to_bytes, untied
from unrolled.runs.claiming import check_free, claim, remove_empty
from unrolled.runs.ending import CONFIG, SUMMARY, is_watch, no_end
from unrolled.runs.environment import ENVIRONMENT, environment
from unrolled.runs.lines import TIMINGS, Lines, cut, unwritten, writable
from unrolled.training.checkpointing import CHECKPOINTS
from unrolled.untrusted import read_json
from unrolled.writing import remove_unfinished, write_whole

MODEL = "model.safetensors"
VOCABULARY = "vocabulary.json"
COMPLETE = (CONFIG, MODEL, SUMMARY)
"""Without these a run cannot be used."""

ROOM = 64 * 1024
"""Bytes for what a run writes after its model."""


class RunDirectory:
    """The files of one run; what cannot be read or written raises a `RunError`.

    One that was made or taken is locked for this process until `end`, or the process's end.

    ``made`` are the directories that were made for it, the innermost first.
    """

    def __init__(self, path: Path, made: Sequence[Path] = ()) -> None:
        self.path = path
        self._made = made
        self._written: list[Path] = []
        self._logs: list[Lines] = []
        self._environment: dict[str, Any] = {}

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """Make an empty one, or raise a `RunError` if that cannot be, or another process has it."""
        check_free(path)
        return cls(path, claim(path))

    @classmethod
    def create_next(cls, parent: Path, name: str, number: int = 1) -> "RunDirectory":
        """Make the first of ``<parent>/<name>-1``, ``-2``, ... that does not exist."""
        while True:
            path = parent / f"{name}-{number}"
            if not lexists(path):
                try:
                    return cls(path, claim(path))
                except RunError:
                    if not path.is_dir() or not any(path.iterdir()):
                        raise
            number += 1  # another process has it

    @classmethod
    def take(cls, path: Path) -> Self:
        """Lock one that a run has left behind, to go on with it; a `RunError` if it still runs."""
        taken = cls.begun(path)
        hold(path)
        remove_unfinished(path)
        return taken

    @classmethod
    def begun(cls, path: Path) -> Self:
        """One that a run has begun in; a `RunError` if none has."""
        if not path.is_dir():
            raise _missing(path)
        if not (path / CONFIG).is_file():
            raise _incomplete(path, [CONFIG])
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """One that a run has left behind; a `RunError` says what is missing."""
        if not path.is_dir():
            raise _missing(path)
        missing = [name for name in COMPLETE if not (path / name).is_file()]
        if missing and CONFIG not in missing and is_watch(path):
            raise RunError(
                f"'{path}' was made by watch, which keeps no weights. What it has recorded: "
                f"unrolled report {path}, unrolled diagnose {path}"
            )
        if missing:
            raise _incomplete(path, missing)
        return cls(path)

    def begin(self, config: Mapping[str, Any], backend: Backend | None = None) -> None:
        """Write down what is about to run and where; `end` follows, or the process has died."""
        self._began = time.monotonic()
        self._environment = environment(backend)
        self.write_json(CONFIG, config)
        self.write_json(ENVIRONMENT, self._environment)

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write down how long it took, and the summary."""
        took = {"took_s": round(time.monotonic() - self._began, 3)}
        resumed = self._environment.get("resumed")
        last = {"resumed": [*resumed[:-1], {**resumed[-1], **took}]} if resumed else took
        self.write_json(ENVIRONMENT, {**self._environment, **last})
        self.write_json(SUMMARY, summary)
        release(self.path)

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *exception: object) -> None:
        for log in self._logs:
            log.file.close()

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Where a file inside it cannot be written, the others that are new go, and what is empty.

        The lock is given back.
        """
        try:
            yield
        except BaseException:  # Ctrl-C, too
            with suppress(OSError):
                for file in self._written:
                    file.unlink(missing_ok=True)
            give_back(self.path)  # not before: then another process may make its run here
            remove_empty(self._made)
            raise

    def write_json(self, name: str, value: Any) -> None:
        """Write a file as JSON, whole or not at all; NaN and infinity become null."""
        text = json.dumps(writable(value), indent=2, ensure_ascii=False, allow_nan=False)
        self.write(name, (text + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Read a JSON file; a `RunError` says that it is missing or damaged."""
        try:
            return read_json(self.path / name)
        except FileNotFoundError:
            raise _incomplete(self.path, [name]) from None
        except OSError as error:
            raise RunError(
                f"'{self.path / name}' cannot be read: {error.strerror}; see that you may read it, "
                "or take it from a copy"
            ) from None
        except ValueError as error:
            raise _damaged(self.path / name, error) from None

    def read_config(self) -> dict[str, Any]:
        """What ``config.json`` says of the run."""
        value = self.read_json(CONFIG)
        config: dict[str, Any] = value if isinstance(value, dict) else {}
        keys = ("experiment", "framework", "seed", "settings")
        if missing := [key for key in keys if key not in config]:
            raise _damaged(self.path / CONFIG, f"it lacks {', '.join(missing)}")
        for key in ("experiment", "framework"):
            if not isinstance(config[key], str):
                what = f"{key} is {config[key]!r}; a name is expected"
                raise _damaged(self.path / CONFIG, what)
        return config

    def save_model(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write parameters by name; on a full disk the end of the longest log makes room."""
        content = to_bytes(arrays)
        try:
            self.write(MODEL, content)
        except RunError as error:
            if getattr(error.__context__, "errno", None) not in FULL:
                raise
            if (self.path / CHECKPOINTS).is_dir():  # it is kept there, and knows these logs
                raise
            sizes = {log.path: log.path.stat().st_size for log in self._logs if log.path.exists()}
            longest = max(sizes, key=lambda path: sizes[path], default=None)
            if longest is None or sizes[longest] < len(content):
                raise
            cut(longest, len(content) + ROOM)
            self.write(MODEL, content)

    def load_model(self) -> dict[str, npt.NDArray[Any]]:
        """The parameters by name; those that are tied share one array."""
        try:
            return untied(*read(self.path / MODEL, inside=self.path))
        except ParameterError as error:
            raise RunError(str(error)) from None

    @contextmanager
    def telling_damage(self) -> Iterator[None]:
        """Turn a `ParameterError` into a `RunError` that says which run is damaged."""
        try:
            yield
        except ParameterError as error:
            raise _damaged(self.path, error) from None

    def lines(self, name: str) -> Lines:
        """What appends objects to a file of lines, open until the ``with`` block ends."""
        self._logs.append(Lines(self.path / name))
        return self._logs[-1]

    def log_positions(self) -> dict[str, Any]:
        """Return the number of lines of the open logs, and their hashes."""
        positions = {}
        for log in self._open_logs():
            # how long something took differs from run to run, and so does its hash
            sha256 = None if log.path.name == TIMINGS else log.sha256
            positions[log.path.name] = {"lines": log.lines, "sha256": sha256}
        return positions

    def sync_logs(self) -> None:
        """Flush the open logs to the disk."""
        for log in self._open_logs():
            log.sync()

    def go_on(
        self,
        config: Mapping[str, Any],
        positions: Mapping[str, Any],
        place: Mapping[str, Any],
        backend: Backend | None,
    ) -> None:
        """Go on with a run that was `take`n: cut its logs, and write down where it goes on.

        Args:
            config: what ``config.json`` is to say.
            positions: what `log_positions` gave.
            place: the step after which it goes on, and the part, if there are several.
        """
        for log in self._open_logs() or map(self.lines, positions):
            log.cut_to(**positions.get(log.path.name, {"lines": 0}))
        before: dict[str, Any] = {}
        with suppress(RunError):  # it says nothing that training needs
            before = self.read_json(ENVIRONMENT)
        now = environment(backend)
        own = {name: now[name] for name in ("began", "command")}
        resumed = [*before.get("resumed", []), {**place, **own}]
        self._began = time.monotonic()
        self._environment = {**(before or now), "resumed": resumed}
        self.write_json(ENVIRONMENT, self._environment)
        self.write_json(CONFIG, config)
        (self.path / SUMMARY).unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder of the run, if it is there."""
        shutil.rmtree(path, ignore_errors=True)

    def _open_logs(self) -> list[Lines]:
        return [log for log in self._logs if not log.file.closed]

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        path = self.path / name
        is_new = not path.exists()
        try:
            write_whole(path, content)
        except OSError as error:
            raise unwritten(path, error) from None
        if is_new:
            self._written.append(path)


def _missing(path: Path) -> RunError:
    beside = _runs_beside(path)
    near = did_you_mean(path.name, beside, 10) if beside else ""
    what = "it is a file" if path.exists() else "there is no such directory"
    return RunError(
        f"'{path}' is not a run directory: {what}"
        + (f"; {near}" if near else "; make one with: unrolled run language-model")
    )


def _damaged(path: Path, why: object) -> RunError:
    return RunError(f"'{path}' is damaged: {why}\nTake it from a copy, or run it once more")


def _incomplete(path: Path, missing: list[str]) -> RunError:
    what = f"'{path}' is no complete run: {', '.join(missing)} missing. "
    found = no_end(path)
    if found is None:
        return RunError(f"{what}Name a directory that `unrolled run` has made and finished")
    logged = f"What it has logged: unrolled diagnose {path}, unrolled report {path}"
    return RunError(f"{what}\n{found.text} {found.remedy}.\n{logged}")


def _runs_beside(path: Path) -> list[str]:
    try:
        return sorted(p.name for p in path.parent.iterdir() if (p / CONFIG).is_file())
    except OSError:  # there is none, or nobody may look into it
        return []
