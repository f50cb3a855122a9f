"""A run directory: everything about one run, in files that other programs can read.

==================  ==============================================================
``config.json``     experiment, framework, seed, all settings
``environment.json``  versions, machine, threads
``metrics.jsonl``   one line an epoch; the same seed gives the same bytes
``telemetry.jsonl`` one line every n-th step, a `unrolled.telemetry.TelemetryRecord`
``timings.jsonl``   how long each epoch took; differs from run to run
``vocabulary.json`` the tokens by id (language models only)
``model.safetensors``  the trained parameters by name
``summary.json``    the result
==================  ==============================================================

A run that trains several models, its parts, tells them apart: their lines begin with
``"part"``, and in ``model.safetensors`` the part and a dot stand before the names.

Every file but the logs is written whole or not at all, and of a log every line.
"""

import errno
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt

from unrolled.errors import ParameterError, RunError, did_you_mean
from unrolled.parameters import read, to_bytes, untied
from unrolled.training.records import EpochRecord, Listener
from unrolled.writing import write_whole

MODEL = "model.safetensors"
COMPLETE = ("config.json", MODEL, "summary.json")
"""Without these a run cannot be used."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What systems say of a disk, or of a user's share of one, that is full."""

ROOM = 64 * 1024
"""Bytes for what a run writes after its model."""


def check_free(path: Path) -> None:
    """Make sure that a run can be written to a path.

    Raises:
        RunError: it holds something already, or cannot be made.
    """
    if path.is_dir():
        if any(path.iterdir()):
            what = "a run" if (path / "config.json").exists() else "other files"
            raise RunError(f"'{path}' already holds {what}; choose another --out, or remove it")
    elif path.exists():
        raise RunError(f"'{path}' is a file; choose a directory for --out")
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(
            f"'{path}' cannot be made: '{parent}' is not a directory to write to; "
            "choose another --out"
        )


class RunDirectory:
    """The files of one run.

    Args:
        path: where they are.
        made: the directories that were made for it, the innermost first.
    """

    def __init__(self, path: Path, made: Sequence[Path] = ()) -> None:
        self.path = path
        self._made = made
        self._written: list[Path] = []
        self._logs: list[_Lines] = []
        self._logged: list[Path] = []

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """Make an empty one.

        Raises:
            RunError: see `check_free`; or the system refuses.
        """
        check_free(path)
        made = _missing(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _remove_empty(made)
            raise _not_made(path, error) from None
        return cls(path, made)

    @classmethod
    def create_next(cls, parent: Path, experiment: str) -> "RunDirectory":
        """Make the first of ``<parent>/<experiment>-1``, ``-2``, ... that does not exist.

        Two runs that begin at the same time get one each.

        Raises:
            RunError: the system refuses.
        """
        number = 1
        while True:
            path = parent / f"{experiment}-{number}"
            made = _missing(path)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                number += 1
            except OSError as error:
                _remove_empty(made)
                raise _not_made(path, error) from None
            else:
                return cls(path, made)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """One that a run has left behind.

        Raises:
            RunError: there is none, or files are missing; the message names them.
        """
        if not path.is_dir():
            near = did_you_mean(path.name, _runs_beside(path), 10) if _runs_beside(path) else ""
            what = "it is a file" if path.exists() else "there is no such directory"
            raise RunError(
                f"'{path}' is not a run directory: {what}"
                + (f"; {near}" if near else "; make one with: unrolled run language-model")
            )
        missing = [name for name in COMPLETE if not (path / name).is_file()]
        if missing:
            raise _incomplete(path, missing)
        return cls(path)

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *exception: object) -> None:
        while self._logs:
            self._logs.pop().close()

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Where a file inside it cannot be written, the others and the directory go, too."""
        try:
            yield
        except RunError:
            with suppress(OSError):
                for file in self._written:
                    file.unlink(missing_ok=True)
            _remove_empty(self._made)
            raise

    def write_json(self, name: str, value: Any) -> None:
        """Write a file as JSON, whole or not at all; NaN and infinity become null."""
        text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
        self._replace(name, (text + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            RunError: missing or damaged.
        """
        try:
            value = json.loads((self.path / name).read_bytes())
            json.dumps(value, ensure_ascii=False).encode()  # half a character is no text
            return value
        except FileNotFoundError:
            raise _incomplete(self.path, [name]) from None
        except (ValueError, RecursionError, OSError) as error:
            raise _damaged(self.path / name, error) from None

    def read_dict(self, name: str, *keys: str) -> dict[str, Any]:
        """Read a JSON file that holds an object with these keys at least.

        Raises:
            RunError: missing, damaged, or something else.
        """
        value = self.read_json(name)
        missing = [key for key in keys if not isinstance(value, dict) or key not in value]
        if missing:
            raise _damaged(self.path / name, f"it lacks {', '.join(missing)}")
        result: dict[str, Any] = value
        return result

    def read_config(self) -> dict[str, Any]:
        """What ``config.json`` says of the run.

        Raises:
            RunError: missing, damaged, or something else.
        """
        config = self.read_dict("config.json", "experiment", "framework", "seed", "settings")
        for key in ("experiment", "framework"):
            if not isinstance(config[key], str):
                what = f"{key} is {config[key]!r}; a name is expected"
                raise _damaged(self.path / "config.json", what)
        return config

    def save_model(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write parameters by name, as `unrolled.parameters.to_bytes` does.

        On a full disk the end of the longest log makes room: the model matters more.
        """
        content = to_bytes(arrays)
        try:
            self._replace(MODEL, content)
        except RunError as error:
            if getattr(error.__context__, "errno", None) not in FULL:
                raise
            longest = max(self._logged, key=_size, default=None)
            if longest is None or _size(longest) < len(content):
                raise
            _cut(longest, len(content) + ROOM)
            self._replace(MODEL, content)

    def load_model(self) -> dict[str, npt.NDArray[Any]]:
        """The parameters by name; those that are tied share one array.

        Raises:
            RunError: missing or damaged.
        """
        try:
            return untied(*read(self.path / MODEL))
        except ParameterError as error:
            raise RunError(str(error)) from None

    @contextmanager
    def telling_damage(self) -> Iterator[None]:
        """Where parts of the run turn out not to fit each other, say which run it is.

        Raises:
            RunError: in place of a `ParameterError`.
        """
        try:
            yield
        except ParameterError as error:
            raise _damaged(self.path, error) from None

    def lines(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        """What appends an object to a file of one JSON object a line; NaN becomes null.

        The file is open until the ``with`` block around this directory ends.

        Raises:
            RunError: it cannot be written, now or later.
        """
        lines = _Lines(self.path / name)
        self._logs.append(lines)
        self._logged.append(lines.path)
        return lines

    def log(
        self, fields: Callable[[EpochRecord], dict[str, Any]], part: str | None = None
    ) -> Listener:
        """A listener that writes ``fields(epoch)`` and the timing of every epoch.

        Args:
            fields: the measures of an epoch by name.
            part: the model's name, where a run trains several; the lines begin with it.
        """
        return _Log(self.lines("metrics.jsonl"), self.lines("timings.jsonl"), fields, part)

    def _replace(self, name: str, content: bytes) -> None:
        try:
            write_whole(self.path / name, content)
        except OSError as error:
            raise _unwritten(self.path / name, error) from None
        self._written.append(self.path / name)


Write = Callable[[Mapping[str, Any]], None]


class _Log(Listener):
    def __init__(
        self,
        metrics: Write,
        timings: Write,
        fields: Callable[[EpochRecord], dict[str, Any]],
        part: str | None,
    ) -> None:
        self.metrics, self.timings, self.fields = metrics, timings, fields
        self.head = {} if part is None else {"part": part}

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        where = {**self.head, "epoch": epoch.epoch, "step": epoch.step}
        norms = {
            "gradient_norm": epoch.gradient_norm,
            "gradient_norm_max": epoch.gradient_norm_max,
            "clipped_norm": epoch.clipped_norm,
        }
        self.metrics({**where, **self.fields(epoch), **norms})
        timing = {"train_s": epoch.train_s, "targets_per_s": epoch.num_targets / epoch.train_s}
        self.timings({**where, **timing})


class _Lines:
    """Appends whole lines to a file; see `RunDirectory.lines`.

    There is no buffer: one that could not be written would fail once more when it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritten(path, error) from None

    def __call__(self, record: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(record, allow_nan=False)
        except ValueError:  # seldom, so not looked for in every number of every line
            text = json.dumps(_finite(record), allow_nan=False)
        left = memoryview((text + "\n").encode())
        begin = self.file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self.file.truncate(begin)
            raise _unwritten(self.path, error) from None

    def close(self) -> None:
        self.file.close()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _cut(file: Path, size: int) -> None:
    """Take so many bytes off the end of a file of lines, or all; whole lines remain."""
    with suppress(OSError), file.open("r+b") as lines:
        end = max(0, file.stat().st_size - size)
        whole = 0
        for line in lines:
            if whole + len(line) > end:
                break
            whole += len(line)
        lines.truncate(whole)


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null in their place."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _missing(path: Path) -> list[Path]:
    """The directories to be made for a path, the innermost first."""
    return [each for each in (path, *path.parents) if not each.exists()]


def _remove_empty(directories: Sequence[Path]) -> None:
    with suppress(OSError):  # not empty, or not there
        for directory in directories:
            directory.rmdir()


def _unwritten(path: Path, error: OSError) -> RunError:
    return RunError(f"'{path}' cannot be written: {error.strerror}")


def _not_made(path: Path, error: OSError) -> RunError:
    where = "give a directory that can be written to: --out DIRECTORY"
    return RunError(f"'{path}' cannot be made: {error.strerror}; {where}")


def _damaged(path: Path, why: object) -> RunError:
    return RunError(f"'{path}' is damaged: {why}\nTake it from a copy, or run it once more")


def _incomplete(path: Path, missing: list[str]) -> RunError:
    begun = (
        "; what a killed run has logged: unrolled report" if "config.json" not in missing else ""
    )
    return RunError(
        f"'{path}' is no complete run: {', '.join(missing)} missing. Name a directory "
        f"that `unrolled run` has made and finished{begun}"
    )


def _runs_beside(path: Path) -> list[str]:
    parent = path.parent
    if not parent.is_dir():
        return []
    return sorted(p.name for p in parent.iterdir() if (p / "config.json").is_file())
