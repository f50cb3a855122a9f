"""Tell whether a run without a summary still runs, was killed or was left open.

The process of a run holds the lock of its directory, see `unrolled.locking`.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unrolled.checkpoints import folder
from unrolled.errors import RunError
from unrolled.locking import owner, state
from unrolled.training.checkpointing import CHECKPOINTS
from unrolled.untrusted import open_regular, parse_json, read_json

CONFIG, SUMMARY = "config.json", "summary.json"

WATCH = "watch"
"""The experiment of a run that ``watch(model, out=...)`` has made: it keeps no weights."""

TAIL = 2**20
"""Bytes at the end of a log in which its last whole line is looked for."""


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
    step, how = last_step(path), state(path)
    if how == "running":
        last = "nothing is recorded yet" if step is None else f"the last record is of step {step:,}"
        by = f": {found}" if (found := owner(path)) else ""
        text = f"The run is still running{by}; {last}."
        return NoEnd("note", text, "Look again at its end", step)
    if (path / SUMMARY).exists():  # it has ended meanwhile
        return None
    after = "before its first record" if step is None else f"after step {step:,}"
    again = "run it again"
    if resumable(path):
        again = f"go on from its newest checkpoint: `unrolled run --resume {path}`"
    if how == "killed":
        text = f"The process ended without a word {after}: it was killed, or it crashed."
        remedy = (
            "Ask the system's log whether memory ran out, and `unrolled doctor` whether the native "
            f"kernels crash here. Then {again}"
        )
    elif how == "left" and is_watch(path):
        text = (
            f"The program ended {after} without closing its watch: the last steps may be missing."
        )
        remedy = "Write `with watch(...) as watched:`, or call watched.close()"
        return NoEnd("warning", text, remedy, step)
    elif how == "left":
        text = f"The program ended {after}, before the run was complete."
        remedy = f"Read the error that it has printed. Then {again}"
    else:
        text = f"The run has no end {after}: its process has died, or still runs."
        remedy = f"See whether its files still grow. If not, {again}"
    return NoEnd("serious", text, remedy, step)


def resumable(path: Path) -> bool:
    """Whether a run has checkpoints, from which ``unrolled run --resume`` goes on."""
    with suppress(OSError, RunError):
        every = path / CHECKPOINTS
        parts = [each for each in every.iterdir() if each.is_dir()]  # of several models
        return any(map(folder.steps, [every, *parts]))
    return False


def is_watch(path: Path) -> bool:
    """Whether `watch` has made a run, which then keeps no weights."""
    with suppress(OSError, ValueError):
        config = read_json(path / CONFIG)
        return isinstance(config, dict) and config.get("experiment") == WATCH
    return False


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
