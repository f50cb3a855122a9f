"""Run ``unrolled bench``: plan the races, measure, show tables, write JSON."""

import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from unrolled.bench import competitors, plan, tables, threads
from unrolled.bench.race import run
from unrolled.bench.results import Result, result
from unrolled.bench.task import Task
from unrolled.errors import RunError, SettingError, did_you_mean
from unrolled.functional.recurrent import CELLS
from unrolled.runs.environment import environment
from unrolled.writing import write_whole

SIGN_OF_LIFE_S = 20.0
"""Where progress is no live line, how often it is told."""

BUSY = 0.3
"""Load of a core above which a machine is not quiet."""

PACKAGES = (
    *("torch", "jax", "jaxlib", "flax", "optax"),
    *("tensorflow", "tensorflow-cpu", "keras", "mxnet"),
)


@dataclass(frozen=True)
class Options:
    """What was asked for; see ``unrolled bench --help``."""

    cells: tuple[str, ...] = ("rnn", "gru", "lstm")
    hiddens: tuple[int, ...] = (512,)
    batch_size: int = 32
    num_steps: int = 35
    rounds: int = 7
    seconds: float = 20.0
    only: tuple[str, ...] = ()
    threads: int | None = None
    gpu: bool = False
    sweep: bool = False
    json: Path | None = None
    markdown: bool = False


def listing(width: int) -> str:
    """Every competitor, and whether it can run here."""
    formatter = click.HelpFormatter(width=min(100, width))
    entries = []
    for competitor in competitors.COMPETITORS.values():
        reason = competitor.absent()
        absent = f". ABSENT: {reason}" if reason else ""
        entries.append((competitor.name, competitor.about + absent))
    formatter.write_dl(entries, col_max=24)
    return formatter.getvalue()


def bench(options: Options) -> list[Result]:
    """Measure, show, and keep what was asked for; after Ctrl-C what was measured so far."""
    count = threads.check(threads.available() if options.threads is None else options.threads)
    planned = _plan(options, count)
    if options.json is not None:
        _check_writable(options.json)
    click.echo(_surroundings(count))
    found: list[Result] = []
    try:
        _measure(planned, options, count, found)
    finally:
        absent = tables.absences(planned.absent, _width())
        if absent:
            click.echo("\n" + "\n".join(absent))
        if options.json is not None:
            _write(options.json, found, planned, count)
    return found


def _plan(options: Options, count: int) -> plan.Plan:
    for cell in options.cells:
        if cell not in CELLS:
            raise SettingError(f"unknown cell '{cell}': {did_you_mean(cell, CELLS)}")
    for name, least in (
        ("batch_size", options.batch_size),
        ("num_steps", options.num_steps),
        ("hiddens", min(options.hiddens)),
        ("rounds", options.rounds),
    ):
        if least < 1:
            raise SettingError(f"{name} is {least}; it must be at least 1")
    if not math.isfinite(options.seconds):
        raise SettingError(f"seconds is {options.seconds}; it must be a number of 0 or more")
    tasks = [
        Task(cell, H, options.batch_size, options.num_steps, threads=count, gpu=options.gpu)
        for cell in options.cells
        for H in options.hiddens
    ]
    for task in tasks:
        task.batches  # noqa: B018 (a text too short for such sizes is told of now)
    if options.sweep:
        return plan.sweep(tasks[0], options.only)
    return plan.plan(tasks, options.only)


def _measure(planned: plan.Plan, options: Options, count: int, found: list[Result]) -> None:
    """Race after race; each is shown when it is over, or has been stopped."""
    progress = Progress()
    with threads.fixed(count):
        for number, race in enumerate(planned.races, 1):
            progress.prefix = f"[{number}/{len(planned.races)}] "
            try:
                run(race, options.rounds, options.seconds, progress)
            finally:
                progress.clear()
                table = result(race)
                if table is not None:
                    found.append(table)
                    lines = (
                        [*tables.markdown(table), ""]
                        if options.markdown
                        else tables.text(table, _width())
                    )
                    click.echo("\n" + "\n".join(lines))


def _width() -> int:
    return shutil.get_terminal_size().columns


class Progress:
    """One line on standard error that says what is going on; plain lines where it is no terminal.

    No thread redraws it: that would take turns of its own.
    """

    def __init__(self) -> None:
        self.prefix = ""
        self._live = sys.stderr.isatty()
        self._spoke = -SIGN_OF_LIFE_S

    def __call__(self, text: str) -> None:
        if self._live:
            width = _width() - 1
            sys.stderr.write(f"\r{(self.prefix + text)[:width]:<{width}}")
        elif time.monotonic() - self._spoke >= SIGN_OF_LIFE_S:
            sys.stderr.write(f"{self.prefix}{text}\n")
            self._spoke = time.monotonic()
        sys.stderr.flush()

    def clear(self) -> None:
        """Make room for other output."""
        if self._live:
            sys.stderr.write("\r" + " " * (_width() - 1) + "\r")
            sys.stderr.flush()


def versions() -> dict[str, str]:
    """Of the installed frameworks, by package."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _surroundings(count: int) -> str:
    from unrolled import __version__, native

    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    lines = [
        f"unrolled {__version__}; {packages}",
        f"native kernels: {native.available()[1]}; threads: {count}",
    ]
    if load() > BUSY * threads.available():
        lines.append(f"Others use this machine (load {load():.1f}): the figures mean little.")
    return "\n".join(line for text in lines for line in tables.wrapped(text, _width()))


def load() -> float:
    """Programs that run or wait to run, over the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _check_writable(path: Path) -> None:
    """Tell of a file that cannot be written before minutes of measuring."""
    if path.is_dir():
        raise RunError(f"'{path}' cannot be written: it is a directory; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise RunError(
            f"'{path}' cannot be written: '{path.parent}' is no directory to write to; name another"
        )


def _write(path: Path, found: list[Result], planned: plan.Plan, count: int) -> None:
    own = {"packages": versions(), "threads": count, "load": load()}
    data = {
        "environment": environment() | own,
        "results": [asdict(table) for table in found],
        "absent": planned.absent,
    }
    try:
        write_whole(path, (json.dumps(data, indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(f"'{path}' cannot be written: {error.strerror}") from None
