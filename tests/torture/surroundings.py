"""Disks that are full or may not be written to, clocks set back, second processes: nothing lost."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture.outcome import Options, Outcome
from torture.processes import Command, Ended, at, call, send, wait_for
from torture.runs import PLANS, Attempt, Reference

DISK_KB = (16, 64, 72, 80, 96, 112, 120, 128, 136, 144)
"""Sizes of small disks: a run needs some 200."""

FILE_BYTES = (600, 3_000, 12_000, 30_000, 50_000)
"""Sizes of the largest file that may be written."""

NOBODY = 65534


def run(options: Options) -> Outcome:
    """Do each of it to a run, then make room and resume it."""
    outcome = Outcome("disk full, read-only, clock set back, second process")
    framework, folder = options.frameworks[0], options.folder
    full_disk(outcome, framework, folder / "disk")
    reference = Reference(PLANS["rnn"], framework, folder / "run")
    for size in FILE_BYTES:
        limit = resource.setrlimit, resource.RLIMIT_FSIZE, (size, size)
        failing(outcome, reference.new("limited"), f"files of {size} bytes at most", limit)
    for step in (2, 8, 15):
        stop = at, "on_step", step, no_descriptors
        failing(outcome, reference.new("descriptors"), f"no open files from step {step}", stop)
    read_only(outcome, reference)
    clock(outcome, reference)
    second_process(outcome, reference)
    outcome.figures = f"{outcome.cases} cases"
    return outcome


def failing(outcome: Outcome, attempt: Attempt, what: str, *patches: Any) -> None:
    """Begin a run that cannot be written; resume it where nothing is in the way."""
    goes_on(outcome, attempt, what, attempt.start(patches=patches))


def goes_on(outcome: Outcome, attempt: Attempt, what: str, ended: Ended) -> None:
    """Resume a run: it is complete then, or has never had a checkpoint and says so.

    Args:
        ended: of its process: with an error, or there was room enough.
    """
    if ended.code == 0:
        outcome.check(not attempt.wrong(), f"{what}: {attempt.wrong()}")
        attempt.remove()
        return
    outcome.check(ended.is_error, f"{what}: exit status {ended.code}, {ended.text[-500:]}")
    if not attempt.path.exists():
        return
    had = any(attempt.path.glob("checkpoints/step-*/complete.json"))
    ended = attempt.resume()
    if had:
        wrong = attempt.wrong() if ended.code == 0 else [ended.text[-500:]]
        outcome.check(not wrong, f"{what}, resumed: {wrong}")
    else:
        outcome.check(ended.is_error, f"{what}, without a checkpoint: {ended.text[-500:]}")
    attempt.remove()


def full_disk(outcome: Outcome, framework: str, folder: Path) -> None:
    """Runs on disks in memory of several sizes."""
    folder.mkdir()
    if mount("mount", "-t", "tmpfs", "-o", "size=16m", "torture", folder):
        outcome.skipped.append("disk full: only root may mount a small tmpfs")
        return
    try:
        reference = Reference(PLANS["rnn"], framework, folder)
        shutil.rmtree(reference.path)
        for kb in DISK_KB:
            attempt = Attempt(reference, folder / "small")
            attempt.log = folder.with_name("small.log")
            mount("mount", "-o", f"remount,size={kb}k", folder)
            ended = attempt.start()
            mount("mount", "-o", "remount,size=16m", folder)
            goes_on(outcome, attempt, f"disk of {kb} KB", ended)
        attempt = Attempt(reference, folder / "small")
        attempt.log = folder.with_name("small.log")
        for room in (0, 8, 16, 32, 48):
            attempt.start(patches=[(at, "on_step", 14, send, signal.SIGKILL)])
            stat = os.statvfs(folder)
            used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize // 1024
            mount("mount", "-o", f"remount,size={used + room}k", folder)
            ended = attempt.resume()
            mount("mount", "-o", "remount,size=16m", folder)
            goes_on(outcome, attempt, f"{room} KB of room to resume in", ended)
    finally:
        mount("umount", "-l", folder)


def mount(*command: object) -> int:
    """Exit status of a command about disks."""
    try:
        return subprocess.run([*map(str, command)], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return 1


def read_only(outcome: Outcome, reference: Reference) -> None:
    """Runs in directories that may no longer be written to."""
    for where in ("", "checkpoints"):
        attempt = reference.new("read-only")
        what = f"{where or 'the run'} read-only"
        own: list[Any] = [(os.setuid, NOBODY)] if os.getuid() == 0 else []
        for folder in (reference.folder, *reference.folder.parents[:2]):
            folder.chmod(0o777)
        attempt.log.touch()
        attempt.log.chmod(0o666)
        stop = at, "on_step", 10, os.chmod, attempt.path / where, 0o555
        ended = attempt.start(patches=[*own, stop])
        outcome.check(ended.is_error, f"{what}: {ended.code}, {ended.text[-500:]}")
        ended = attempt.resume(patches=own)
        (attempt.path / where).chmod(0o777)
        goes_on(outcome, attempt, what, ended)


def no_descriptors() -> None:
    """Let this process open no more files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))


def clock(outcome: Outcome, reference: Reference) -> None:
    """Runs whose clock is set back, and whose process rests for hours."""
    for what, patch in {"set back": (set_back,), "hours later": (at, "on_step", 5, later)}.items():
        attempt = reference.new("clock")
        ended = attempt.start(patches=[patch, (at, "on_step", 14, send, signal.SIGKILL)])
        outcome.check(ended.code == -9, f"clock {what}: {ended.text[-500:]}")
        ended = attempt.resume(patches=[patch])
        wrong = attempt.wrong() if ended.code == 0 else [ended.text[-500:]]
        outcome.check(not wrong, f"clock {what}: {wrong}")
        attempt.remove()


def set_back() -> None:
    """Have the clock of this process go backwards."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 100
        return now[0]

    time.time = earlier


def later() -> None:
    """Have all clocks of this process be ten hours ahead."""
    for name in ("time", "monotonic", "perf_counter"):
        setattr(time, name, ahead(getattr(time, name)))


def ahead(clock: Callable[[], float]) -> Callable[[], float]:
    return lambda: clock() + 36_000


def second_process(outcome: Outcome, reference: Reference) -> None:
    """Resume a run that still runs, begin another in its place, and resume one twice at once."""
    attempt = reference.new("twice")
    first = Command(attempt.first, attempt.log, patches=[(at, "on_step", 12, time.sleep, 8)])
    wait_for(attempt.path / "checkpoints/step-000012", first)
    log = attempt.path.with_name("second.log")
    for command in (attempt.again, attempt.first):
        outcome.check(in_use(call(*command, log=log), first), "a second process is let in")
    ended = first.wait()
    outcome.check(
        ended.code == 0 and not attempt.wrong(), f"the first process: {ended.text[-500:]}"
    )
    attempt.remove()
    attempt.start(patches=[(at, "on_step", 14, send, signal.SIGKILL)])
    both = [Command(attempt.again, log.with_name(f"{n}.log")) for n in (1, 2)]
    ends = [command.wait() for command in both]
    refused = [ended for ended in ends if ended.is_error]
    right = [ended.code for ended in ends].count(0) == 1 and len(refused) == 1
    outcome.check(right and not attempt.wrong(), f"two at once: {[e.text[-300:] for e in ends]}")


def in_use(ended: Ended, owner: Command) -> bool:
    return ended.is_error and f"is in use by process {owner.process.pid} on host" in ended.text
