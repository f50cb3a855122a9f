"""Run commands in processes of their own, which end where they are told to.

A process is forked from one that has loaded every framework, so that it begins in a moment.
"""

import json
import multiprocessing
import os
import random
import signal
import stat
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from installed import INSTALLED

CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "ftruncate")
"""Functions of `os` that change what is on the disk."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["unrolled.cli", "unrolled.experiments.language_model", "unrolled.experiments.digit_sum"]
    + [f"unrolled.{part}{framework}" for framework in INSTALLED for part in ("", "nndl.")]
    + ["torch._dynamo"] * ("torch" in INSTALLED)  # seconds, whenever Adam is made
    + ["IPython.core.getipython"]  # a process of another user may not read where it is installed
)

Call = tuple[Callable[..., object], *tuple[Any, ...]]
"""A function and its arguments, to be called in another process."""

LONGEST_S = 300
"""Seconds after which a process counts as hung."""


@dataclass(frozen=True)
class Death:
    """SIGKILL at a call of one of `CALLS`; number 0 kills nobody.

    ``torn`` cuts the file that is flushed at a random byte, as a power cut would, if it counts for
    nothing yet.
    """

    number: int
    how: Literal["before", "after", "torn"] = "before"
    seed: int = 0

    def __call__(self, count: int, before: bool, name: str, arguments: tuple[Any, ...]) -> None:
        if count != self.number or before != (self.how != "after"):
            return
        if self.how == "torn" and name == "fsync":
            tear(arguments[0], random.Random(self.seed))
        os.kill(os.getpid(), signal.SIGKILL)


def tear(file: int, draw: random.Random) -> None:
    """Cut an unfinished file at a random byte."""
    found = os.fstat(file)
    unfinished = "unfinished" in os.readlink(f"/proc/self/fd/{file}")
    if unfinished and stat.S_ISREG(found.st_mode) and found.st_size:
        os.truncate(f"/proc/self/fd/{file}", draw.randrange(found.st_size))


@dataclass
class Ended:
    """What became of a process.

    Attributes:
        code: its exit status; the signal's number with a minus where one ended it.
        text: all that it printed.
        calls: how many `CALLS` it made, if it ended by itself.
        first: the number of that which put the first checkpoint in its place.
    """

    code: int | None
    text: str
    calls: int = 0
    first: int = 0

    @property
    def is_error(self) -> bool:
        """Whether it ended with an error for people to read."""
        return self.code == 2 and "error: " in self.text and "Traceback" not in self.text


@dataclass
class Command:
    """A command of unrolled in a process of its own, from its start on.

    Args:
        arguments: of the command line.
        log: file that it prints to.
        death: where it dies, if anywhere.
        patches: functions that are called first, with arguments.
    """

    arguments: Sequence[str]
    log: Path
    death: Death = Death(0)
    patches: Sequence[Call] = ()
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        given = list(map(str, self.arguments)), self.log, self.death, self.patches
        self.process = CONTEXT.Process(target=_main, args=given, daemon=True)
        self.process.start()

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> Ended:
        """Wait for its end."""
        self.process.join(LONGEST_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            return Ended(None, "Traceback: the process hangs")
        calls = self.log.with_suffix(".calls")
        counts = json.loads(calls.read_text()) if calls.exists() else []
        return Ended(self.process.exitcode, self.log.read_text(errors="replace"), *counts)


def call(*arguments: object, log: Path, **options: Any) -> Ended:
    """Run a command and wait for its end."""
    return Command([str(each) for each in arguments], log, **options).wait()


def wait_for(path: Path, command: Command) -> bool:
    """Wait until a file is there; False if the command ended before."""
    while not path.exists():
        if not command.process.is_alive():
            return path.exists()
        time.sleep(0.002)
    return True


def at(event: str, step: int, function: Callable[..., object], *arguments: Any) -> None:
    """Have a function called once, when a listener's method is, after so many steps."""
    from unrolled.training.trainer import Trainer

    notify, called = Trainer.notify, []

    def notifying(self: Any, name: str, *what: Any) -> list[Any]:
        answers = notify(self, name, *what)
        if name == event and self.train_batch_idx == step and not called:
            called.append(True)
            if self.checkpoint is not None:  # which a thread writes: a case is to be the same again
                self.checkpoint.wait()
            function(*arguments)
        return answers

    Trainer.notify = notifying  # type: ignore[method-assign]


def send(*signals: int) -> None:
    """Send signals to this process."""
    for each in signals:
        os.kill(os.getpid(), each)
        time.sleep(0.01)  # two of a kind at once would be one


def _main(arguments: list[str], log: Path, death: Death, patches: Sequence[Call]) -> None:
    from unrolled import cli

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = sys.orig_argv = ["unrolled", *arguments]
    for function, *given in patches:
        function(*given)
    count = _count_calls(death)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main()
    finally:
        log.with_suffix(".calls").write_text(json.dumps(count))


def _count_calls(death: Death) -> list[int]:
    """Count the calls that change the disk, and die at one; see `Ended` for the two counts."""
    count = [0, 0]

    def counted(name: str, call: Any) -> Any:
        def counting(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            number = count[0]
            if name == "rename" and not count[1] and ".step-" in str(arguments[0]):
                count[1] = number
            death(number, True, name, arguments)
            result = call(*arguments, **options)
            death(number, False, name, arguments)
            return result

        return counting

    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    return count
