"""Run ``unrolled bench``: plan the races, measure, show tables, write JSON."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from unrolled.bench import tables, threads, training
from unrolled.bench.competitors import COMPETITORS
from unrolled.bench.race import Timings, run
from unrolled.bench.results import Result, result
from unrolled.bench.task import Task
from unrolled.errors import RunError, SettingError
from unrolled.runs.environment import environment
from unrolled.writing import write_whole

SIGN_OF_LIFE_S = 20.0
"""Where progress is no live line, how often it is told."""

BUSY = 0.3
"""Load of a core above which a machine is not quiet."""

PACKAGES = (
    "torch",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "mxnet",
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
    for competitor in COMPETITORS.values():
        reason = competitor.absent()
        entries.append(
            (competitor.name, competitor.about + (f". ABSENT: {reason}" if reason else ""))
        )
    formatter.write_dl(entries, col_max=24)
    return formatter.getvalue()


def bench(options: Options, echo: Callable[[str], None] = click.echo) -> list[Result]:
    """Measure, show, and keep what was asked for.

    Args:
        options: what to measure.
        echo: prints lines.

    Returns:
        The tables.

    Raises:
        SettingError: an option that makes no sense.
        RunError: the file cannot be written.
        KeyboardInterrupt: Ctrl-C, after showing and keeping what was measured so far.
    """
    count = threads.check(threads.available() if options.threads is None else options.threads)
    plan = _plan(options, count)
    if options.json is not None:
        _check_writable(options.json)
    echo(_surroundings(count))
    found: list[Result] = []
    try:
        _measure(plan, options, count, found, echo)
    finally:
        absent = tables.absences(plan.absent, shutil.get_terminal_size().columns)
        if absent:
            echo("\n" + "\n".join(absent))
        if options.json is not None:
            _write(options.json, _as_json(found, plan, count))
    return found


def _plan(options: Options, count: int) -> training.Plan:
    sizes = {"batch_size": options.batch_size, "num_steps": options.num_steps}
    if not math.isfinite(options.seconds):
        raise SettingError(f"seconds is {options.seconds}; it must be a number of 0 or more")
    smallest = min(options.hiddens, default=0)
    training.check(options.cells, **sizes, hiddens=smallest, rounds=options.rounds)
    tasks = [
        Task(cell, H, options.batch_size, options.num_steps, threads=count, gpu=options.gpu)
        for cell in options.cells
        for H in options.hiddens
    ]
    for task in tasks:
        task.batches  # noqa: B018 (a text too short for such sizes is told of now)
    if options.sweep:
        return training.sweep(tasks[0], options.only)
    return training.plan(tasks, options.only)


def _measure(
    plan: training.Plan,
    options: Options,
    count: int,
    found: list[Result],
    echo: Callable[[str], None],
) -> None:
    """Race after race; each is shown when it is over, or has been stopped."""
    progress = Progress()
    with threads.fixed(count, {competitor.framework for competitor in plan.here}):
        for number, race in enumerate(plan.races, 1):
            if not plan.here:
                break
            timings = Timings()
            progress.prefix = f"[{number}/{len(plan.races)}] "
            try:
                run(race, timings, options.rounds, options.seconds, progress)
            finally:
                progress.clear()
                table = result(race, timings)
                if table is not None:
                    found.append(table)
                    _show([table], options, echo)


def _show(found: list[Result], options: Options, echo: Callable[[str], None]) -> None:
    width = shutil.get_terminal_size().columns
    for table in found:
        lines = tables.markdown(table) if options.markdown else tables.text(table, width)
        echo("\n" + "\n".join(lines) + ("\n" if options.markdown else ""))


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
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{(self.prefix + text)[:width]:<{width}}")
        elif time.monotonic() - self._spoke >= SIGN_OF_LIFE_S:
            sys.stderr.write(f"{self.prefix}{text}\n")
            self._spoke = time.monotonic()
        sys.stderr.flush()

    def clear(self) -> None:
        """Make room for other output."""
        if self._live:
            sys.stderr.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
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
    from unrolled import __version__
    from unrolled.kernels import native

    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    lines = [
        f"unrolled {__version__}; {packages}",
        f"native kernels: {native.available()[1]}; threads: {count}",
    ]
    if load() > BUSY * threads.available():
        lines.append(f"Others use this machine (load {load():.1f}): the figures mean little.")
    width = shutil.get_terminal_size().columns
    return "\n".join(line for text in lines for line in tables.wrapped(text, width))


def load() -> float:
    """Programs that run or wait to run, over the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _as_json(found: list[Result], plan: training.Plan, count: int) -> dict[str, Any]:
    return {
        "environment": environment() | {"packages": versions(), "threads": count, "load": load()},
        "results": [table.as_json() for table in found],
        "absent": plan.absent,
    }


def _check_writable(path: Path) -> None:
    """Tell of a file that cannot be written before minutes of measuring.

    Raises:
        RunError: it is a directory, or in none that may be written to.
    """
    if path.is_dir():
        raise RunError(f"'{path}' cannot be written: it is a directory; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise RunError(
            f"'{path}' cannot be written: '{path.parent}' is no directory to write to; name another"
        )


def _write(path: Path, data: dict[str, Any]) -> None:
    try:
        write_whole(path, (json.dumps(data, indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(f"'{path}' cannot be written: {error.strerror}") from None
