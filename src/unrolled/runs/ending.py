"""Lock a run directory while it runs; tell whether one without a summary still runs or was killed.

The process of a run holds an advisory lock on a file of the run directory, which the system
releases when the process ends. (A process's number would not do: numbers are given again.)
"""

import atexit
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from unrolled.untrusted import open_regular, parse_json, read_bytes

if sys.platform != "win32":  # there it stays unknown whether a run is alive
    import fcntl

LOCK, CONFIG, SUMMARY = "running.lock", "config.json", "summary.json"

WATCH = "watch"
"""The experiment of a run that ``watch(model, out=...)`` has made: it keeps no weights."""

LEFT = b"the process ended without finishing the run\n"
"""What stands in the lock file if Python itself ended: nobody has killed it."""

TAIL = 2**20
"""Bytes at the end of a log in which its last whole line is looked for."""

_held: dict[Path, BinaryIO] = {}


def hold(path: Path) -> None:
    """Lock a run directory, if its file system can, until `release` or the process's end."""
    if sys.platform == "win32":
        return
    unlocked = path / f".{LOCK}.unfinished"
    with suppress(OSError):
        file = unlocked.open("wb", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(path / LOCK)  # locked from the moment that it is there
        except OSError:
            file.close()
            unlocked.unlink()
        else:
            _held[path.absolute()] = file


def release(path: Path) -> None:
    """Give the lock up and remove its file, if there is one."""
    file = _held.pop(path.absolute(), None)
    if file is not None:
        with suppress(OSError):
            (path / LOCK).unlink(missing_ok=True)
        file.close()


@atexit.register
def _leave() -> None:
    for file in _held.values():
        with suppress(OSError, ValueError):
            file.write(LEFT)


if hasattr(os, "register_at_fork"):
    # a child shares the lock, and must not keep it beyond the end of its parent
    os.register_at_fork(after_in_child=lambda: [file.close() for file in _held.values()])


@dataclass(frozen=True)
class NoEnd:
    """What is known of a run without a summary: what has become of it, and what to do."""

    severity: Literal["note", "warning", "serious"]  # running; a watch left open; anything else
    text: str
    remedy: str
    step: int | None  # of the last record

    @property
    def is_running(self) -> bool:
        """Whether its process still holds the lock."""
        return self.severity == "note"


def no_end(path: Path) -> NoEnd | None:
    """What is known of a run without a summary; None if it has one, or is no run."""
    if (path / SUMMARY).exists() or not (path / CONFIG).exists():
        return None
    step, state = last_step(path), _state(path)
    if state == "running":
        last = "nothing is recorded yet" if step is None else f"the last record is of step {step:,}"
        return NoEnd("note", f"The run is still running; {last}.", "Look again at its end", step)
    after = "before its first record" if step is None else f"after step {step:,}"
    if state == "killed":
        text = f"The process ended without a word {after}: it was killed, or it crashed."
        remedy = (
            "Ask the system's log whether memory ran out, and `unrolled doctor` whether the native "
            "kernels crash here. Then run it again"
        )
    elif state == "left" and is_watch(path):
        text = (
            f"The program ended {after} without closing its watch: the last steps may be missing."
        )
        remedy = "Write `with watch(...) as watched:`, or call watched.close()"
        return NoEnd("warning", text, remedy, step)
    elif state == "left":
        text = f"The program ended {after}, before the run was complete."
        remedy = "Read the error that it has printed, and run it again"
    else:
        text = f"The run has no end {after}: its process has died, or still runs."
        remedy = "See whether its files still grow. If not, run it again"
    return NoEnd("serious", text, remedy, step)


def is_watch(path: Path) -> bool:
    """Whether `watch` has made a run, which then keeps no weights."""
    with suppress(OSError, ValueError):
        config = parse_json(read_bytes(path / CONFIG, inside=path))
        return isinstance(config, dict) and config.get("experiment") == WATCH
    return False


def _state(path: Path) -> str:
    if sys.platform == "win32":
        return "unknown"
    try:
        with open_regular(path / LOCK, inside=path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return "left" if file.read(len(LEFT) + 1) == LEFT else "killed"
    except BlockingIOError:
        return "running"
    except OSError:  # there is none: an older version has made the run, or a system without locks
        return "unknown"


def last_step(path: Path) -> int | None:
    """The step of the last record in a run's logs; None if they hold none."""
    found = []
    for name in ("metrics.jsonl", "telemetry.jsonl"):
        with suppress(OSError):
            file = path / name
            found += [(file.stat().st_mtime_ns, *last) for last in _last_record(file)]
    running = max(found, default=(0, None, 0))[1]  # the model that was trained last
    return max((step for _, part, step in found if part == running), default=None)


def _last_record(file: Path) -> list[tuple[str, int]]:
    """Model and step of the last whole line of a log, or nothing."""
    with open_regular(file, inside=file.parent) as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        for line in reversed(log.read().splitlines()):
            with suppress(ValueError):
                record = parse_json(line)
                if isinstance(record, dict) and type(record.get("step")) is int:
                    return [(str(record.get("part") or ""), record["step"])]
    return []
