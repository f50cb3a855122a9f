"""The progress display of a training run: lines that stay, on a terminal a live line below."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, TextIO, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from unrolled.output import Output
from unrolled.training.not_finite import what_was_done
from unrolled.training.records import EpochRecord, Listener, StepRecord

Part = TypeVar("Part")

PLAIN_LINE_EVERY_S = 20.0
"""Where there is no live line, a sign of life at least this often."""

WIDE_ENOUGH_FOR_A_BAR, WIDE_ENOUGH_FOR_ALL, WIDE_ENOUGH_FOR_GRADIENTS = 110, 90, 72
"""Columns of a terminal under which the live line leaves something out."""


def console() -> Console:
    """Standard output, whose loss ends no training; not wrapped where it is no terminal."""
    output = Output()
    return Console(
        file=cast(TextIO, output), highlight=False, soft_wrap=not output.isatty(), markup=False
    )


def say(text: str) -> None:
    """Print lines to standard output."""
    console().print(text)


def working(what: str) -> AbstractContextManager[Any]:
    """Show on a terminal, beside the output, that something takes a while."""
    output = Console(stderr=True)
    return output.status(what) if output.is_terminal else nullcontext()


def shown(
    what: str, parts: Iterable[Part], count: int | None = None, after_s: float = 0
) -> Iterator[Part]:
    """Give parts one by one, and show on a terminal how far it is: a line that goes away again.

    ``count`` is about how many there are; the line is shown from ``after_s`` seconds of work on.
    """
    output = console()
    columns = TextColumn("{task.description}", markup=False), TimeRemainingColumn()
    live = Progress(*columns, console=output, transient=True)
    task, began, is_shown = live.add_task(what, total=count), time.monotonic(), False
    try:
        for part in parts:
            if not is_shown and output.is_terminal and time.monotonic() - began >= after_s:
                live.start()
                is_shown = True
            yield part
            live.advance(task)
    finally:
        if is_shown:
            live.stop()


class TrainingProgress(Listener):
    """Shows a training's progress; a context manager around ``Trainer.fit``.

    Args:
        fields: the measures of an epoch by name, as they go to the log.
        line: the same for a person, from the loss so far: ``line(loss) -> text``.
        every: epochs between lines that stay.
        sample: what to show under each such line; gives lines of text.
        targets: what is counted per second, as ``"tokens"``.
    """

    def __init__(
        self,
        fields: Callable[[EpochRecord], dict[str, Any]],
        line: Callable[[EpochRecord], str],
        every: int,
        targets: str,
        sample: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.fields = fields
        self.line = line
        self.every = every
        self.targets = targets
        self.sample = sample
        self.epochs = 0
        self.trained_targets = 0
        self.train_s = 0.0
        self.last: EpochRecord | None = None
        self._console = console()
        self._live = self._console.is_terminal
        columns = [TextColumn("{task.description}", markup=False)]
        if self._console.width >= WIDE_ENOUGH_FOR_A_BAR:
            columns.append(BarColumn(bar_width=20))  # type: ignore[arg-type]
        self._progress = Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            transient=True,
            disable=not self._live,
        )

    def __enter__(self) -> "TrainingProgress":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def on_fit_start(self, trainer: Any) -> None:
        self.epochs = trainer.max_epochs
        total = trainer.max_epochs * trainer.num_train_batches
        self._task = self._progress.add_task(f"epoch 1/{self.epochs}", total=total)
        self._steps = trainer.num_train_batches
        self._started = self._spoke = time.monotonic()
        self._done_before: float | None = None  # share of the steps that another process took

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        if self._done_before is None:
            self._done_before = (step.step - 1) / (self.epochs * self._steps)
        if step.on_nonfinite is not None:
            where = f"epoch {step.epoch}/{self.epochs} step {step.step}"
            numbers = f"loss {step.loss:.4g}, gradient {step.gradient_norm:.3g}"
            self._print(f"{where}  {numbers}: {what_was_done(step)}")
        if self._live:
            self._progress.update(self._task, completed=step.step)
            if self.last is None:
                text = f"epoch {step.epoch}/{self.epochs}  loss {step.loss:.3f}"
                self._progress.update(self._task, description=text)
        elif time.monotonic() - self._spoke > PLAIN_LINE_EVERY_S:
            left = self._left(step.step / (self.epochs * self._steps))
            norms = f"gradient {step.gradient_norm:.3g} -> {step.clipped_norm:.3g}"
            where = f"epoch {step.epoch}/{self.epochs} step {step.step}"
            self._print(f"{where}  loss {step.loss:.4f}  {norms}  {left}")

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self.last = epoch
        self.trained_targets += epoch.timed_targets
        self.train_s += epoch.train_s
        speed = f"{epoch.targets_per_s:,.0f} {self.targets}/s"
        parts = [
            f"epoch {epoch.epoch:>{len(str(self.epochs))}}/{self.epochs}",
            self.line(epoch),
            speed,
            f"gradient {epoch.gradient_norm:.3g} -> {epoch.clipped_norm:.3g}",
        ]
        line = "  ".join(parts)
        if self._console.width < WIDE_ENOUGH_FOR_ALL:
            parts.remove(speed)
        if self._console.width < WIDE_ENOUGH_FOR_GRADIENTS:
            parts.pop()
        self._progress.update(self._task, description="  ".join(parts))
        if epoch.epoch % self.every == 0 or epoch.epoch == self.epochs:
            left = "" if self._live else f"  {self._left(epoch.epoch / self.epochs)}"
            self._print(line + left)
            for text in self.sample():
                self._print(f"  {text}")

    def state_dict(self) -> dict[str, Any] | None:
        if self.last is None:
            return {"last": None}
        # how long it took is of the process, and differs from run to run
        return {"last": {**asdict(self.last), "train_s": math.nan, "timed_targets": 0}}

    def load_state_dict(self, state: Any) -> None:
        self.last = state["last"] and EpochRecord(**state["last"])

    def targets_per_s(self) -> float | None:
        """Over all finished epochs, training only; None before the first."""
        return self.trained_targets / self.train_s if self.train_s else None

    def _left(self, share_done: float) -> str:
        passed, done = time.monotonic() - self._started, share_done - (self._done_before or 0.0)
        if done <= 0:  # epochs of different lengths
            return "some time left"
        seconds = max(0, round(passed * (1 - share_done) / done))
        return f"{seconds // 60}:{seconds % 60:02} left"

    def _print(self, text: str) -> None:
        self._progress.console.print(text)
        self._spoke = time.monotonic()
