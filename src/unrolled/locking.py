"""Lock a directory: `hold`, `release`, `leave`; `state` tells whether its process runs or died.

The system releases the lock when the process ends, however it ends. (A process's number would not
do: numbers are given again.) Where it knows no such locks, as on Windows, nothing is locked.
"""

import atexit
import json
import os
import platform
import shlex
import sys
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from unrolled.errors import InUseError, RunError
from unrolled.output import printable
from unrolled.untrusted import open_plain

if sys.platform != "win32":
    import fcntl

LOCK = "running.lock"

LEFT = b"the process ended without finishing the run\n"
"""The last line of a lock file if Python itself ended: nobody has killed the process."""

LONGEST = 2**16
"""Bytes of a lock file that are read."""

COMMAND = 200
"""Characters of a command that are kept: programs given by ``python -c`` have no end."""

ATTEMPTS, PAUSE = 100, 0.01
"""Attempts of `hold`, and seconds between them: who looks at a lock shares it for an instant."""

State = Literal["running", "killed", "left", "unknown"]


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, or held it last."""

    process: int
    host: str
    command: str
    began: str

    def __str__(self) -> str:
        return f"process {self.process} on host {self.host}"


@dataclass(frozen=True)
class _Held:
    file: int  # descriptor
    before: bytes  # what the lock file said


_held: dict[Path, _Held] = {}


def hold(path: Path) -> None:
    """Lock a directory until `release`, `give_back` or the process's end.

    An `InUseError` names another process that holds the lock.
    """
    if sys.platform == "win32":
        return
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            file = open_plain(path / LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunError(
                f"'{path / LOCK}' cannot be locked: {error.strerror}; remove it, or choose another "
                "--out"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path / LOCK):  # else its owner has removed it meanwhile
                _held[path.absolute()] = _Held(file, os.pread(file, LONGEST, 0))
                _write(file, _this_process())
                return
        except BlockingIOError:
            by = owner(path)
            if attempt and by and state(path) == "running":  # it has had time to write its name
                os.close(file)
                raise _in_use(path, by) from None
        except OSError:  # this file system has no locks
            if not os.fstat(file).st_size:
                with suppress(OSError):
                    (path / LOCK).unlink()
            os.close(file)
            return
        os.close(file)
    raise _in_use(path, owner(path))


def hold_while(owner: object, path: Path) -> "weakref.finalize[..., Any]":
    """Make a directory, and lock it as long as an object is there; return what unlocks it earlier.

    If this process has locked it already, it stays so.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"'{path}' cannot be made: {error.strerror}; choose another directory"
        ) from None
    if is_held(path):
        return weakref.finalize(owner, lambda: None)
    hold(path)
    return weakref.finalize(owner, release, path)


def is_held(path: Path) -> bool:
    """Whether this process holds the lock of a directory."""
    return path.absolute() in _held


def check_unused(path: Path) -> None:
    """Raise a `RunError` if another process holds the lock of a directory."""
    if is_held(path):
        return
    for _ in range(ATTEMPTS):
        if state(path) != "running":
            return
        if by := owner(path):
            raise _in_use(path, by)
        time.sleep(PAUSE)  # it is about to write its name
    raise _in_use(path, None)


def _in_use(path: Path, by: Owner | None) -> InUseError:
    who = "another process" if by is None else f"{by}, started by `{by.command}`"
    return InUseError(f"'{path}' is in use by {who}; wait until it ends, or choose another --out")


def release(path: Path) -> None:
    """Give up a lock of this process and remove its file: the run is finished."""
    held = _held.pop(path.absolute(), None)
    if held is not None:
        with suppress(OSError):
            if _is_at(held.file, path / LOCK):  # not that of a run which has replaced ours
                (path / LOCK).unlink()
        _close(held.file)


def give_back(path: Path) -> None:
    """Give up a lock of this process; its file says again what it said before `hold`."""
    held = _held.get(path.absolute())
    if held is None or not held.before:
        release(path)
    else:
        _write(held.file, held.before)
        _close(_held.pop(path.absolute()).file)


def leave(path: Path) -> None:
    """Give up a lock of this process; its file says that the run is not finished."""
    held = _held.pop(path.absolute(), None)
    if held is not None:
        with suppress(OSError):
            os.pwrite(held.file, LEFT, os.fstat(held.file).st_size)
        _close(held.file)


def state(path: Path) -> State:
    """Whether the process that locked a directory still runs, or how it has ended."""
    return _look(path)[0]


def owner(path: Path) -> Owner | None:
    """The process that holds the lock of a directory, or held it last; None if it is not known."""
    first, _, _ = _look(path)[1].partition(b"\n")
    with suppress(ValueError, RecursionError, AttributeError):
        said = json.loads(first)
        process, *texts = (said.get(name) for name in Owner.__dataclass_fields__)
        if type(process) is int and all(isinstance(text, str) for text in texts):
            return Owner(process, *(printable(text)[:COMMAND] for text in texts))
    return None


def _look(path: Path) -> tuple[State, bytes]:
    """State and content of a lock file."""
    if sys.platform == "win32":
        return "unknown", b""
    try:
        file = open_plain(path / LOCK, os.O_RDONLY)
    except OSError:  # there is none: an older version has made the run, or a system without locks
        return "unknown", b""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        content = os.pread(file, LONGEST, 0)
        if not _is_at(file, path / LOCK):
            return "unknown", b""
        return "left" if content.endswith(LEFT) else "killed", content
    except BlockingIOError:
        return "running", os.pread(file, LONGEST, 0)
    except OSError:
        return "unknown", b""
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def _write(file: int, content: bytes) -> None:
    with suppress(OSError):  # a full disk: the lock is held all the same
        os.ftruncate(file, 0)
        os.pwrite(file, content, 0)


def _close(file: int) -> None:
    with suppress(OSError):
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may have the file open, too
        os.close(file)


def _this_process() -> bytes:
    owner = Owner(
        process=os.getpid(),
        host=platform.node(),
        command=printable(shlex.join(sys.orig_argv))[:COMMAND],
        began=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return json.dumps(asdict(owner)).encode() + b"\n"


@atexit.register
def _leave_all() -> None:
    for path in [*_held]:
        leave(path)


def _forget() -> None:
    """In a forked child: it shares the locks, and must not keep them beyond its parent's end."""
    for held in _held.values():
        os.close(held.file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
