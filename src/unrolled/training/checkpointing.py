"""`Checkpointing` saves the state of a training on a schedule, and goes on from what it saved."""

import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from unrolled.checkpoints import folder
from unrolled.checkpoints.contents import pack, unpack
from unrolled.checkpoints.schedule import Schedule
from unrolled.errors import ResumeError, SettingError
from unrolled.hyperparameters import HyperParameters
from unrolled.locking import hold_while
from unrolled.training.other_framework import adopted
from unrolled.training.records import Backward, EpochRecord, Listener, StepRecord
from unrolled.training.surroundings import check_same, no_fit
from unrolled.training.training_state import (
    has_position,
    load_training_state,
    not_exact,
    not_the_same,
    other_parts,
    training_state,
)

CHECKPOINTS = "checkpoints"
"""The folder of a run directory that they are in."""


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=5)


class Checkpointing(Listener, HyperParameters):
    """Saves checkpoints of a training, so that it can go on after whatever ended it.

    A checkpoint is a folder ``<directory>/checkpoints/step-000123``: see
    `unrolled.checkpoints.folder`. It is there whole or not at all. `Trainer.fit` goes on from it
    with ``resume=directory``, and computes what it would have computed without the break, to the
    byte: weights, optimizer, order of the minibatches, random draws, logs. The training waits only
    while its state is copied; a thread writes it.

    Args:
        directory: the run directory.
        schedule: how often, ``"every=1000steps"``, ``"every=5epochs"`` or ``"every=10min"``; there
            is one at the end of the training in any case. ``"every=5epochs,keep=3"`` keeps the
            last three, not two, and the best one: that after the epoch with the smallest loss, on
            the validation data where there are any.
        part: the model's name, where a run trains several; they have a folder each.
        least_s: a training that ends sooner by itself leaves no checkpoint, unless one was due.
        tell: called with what there is to say of a checkpoint that is resumed: others that are
            damaged, and what is not as it was. By default it makes a warning.

    Example:
        >>> import tempfile
        >>> from unrolled import torch
        >>> run = tempfile.mkdtemp()
        >>> data = torch.TextData("hello world " * 100, batch_size=4, num_steps=10, seed=0)
        >>> model = torch.LanguageModel(len(data.vocab), num_hiddens=8, seed=0)
        >>> torch.Trainer(2, checkpoint=torch.Checkpointing(run, "every=1epoch")).fit(model, data)
        >>> again = torch.LanguageModel(len(data.vocab), num_hiddens=8, seed=1)
        >>> trainer = torch.Trainer(max_epochs=3)
        >>> trainer.fit(again, data, resume=run)
        >>> trainer.train_batch_idx == 3 * trainer.num_train_batches
        True
    """

    takes_rows: ClassVar[bool] = True
    part: str | None
    least_s: float
    tell: Callable[[str], None]
    schedule: Schedule
    directory: Path

    def __init__(
        self,
        directory: str | Path,
        schedule: str = "every=10min,keep=2",
        part: str | None = None,
        least_s: float = 0,
        tell: Callable[[str], None] = _warn,
    ) -> None:
        self.save_hyperparameters(ignore=["schedule", "directory"])
        found = Schedule.parse(schedule)
        if found is None:
            raise SettingError("schedule is off; leave checkpoint out, or say how often")
        self.schedule = found
        self.directory = Path(directory)
        self.folder = self.directory / CHECKPOINTS / (part or "")
        self.score: float | None = None
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def on_fit_start(self, trainer: Any) -> None:
        trainer.check_sees_steps("checkpoint=", "in a loop of your own take unrolled.Checkpoints")
        trainer.position.make_resumable()
        self._writes = trainer.data_parallel.rank == 0
        if self._writes:
            self._unlock = hold_while(self, self.directory)
            trainer.data_parallel.before_exit(self.wait)
        self._place: tuple[int, int] = (trainer.epoch, trainer.offset)
        self._saved: tuple[int, int] | None = None
        self._began = self._last = trainer.now

    def on_not_finite(self, trainer: Any, step: StepRecord, backward: Backward | None) -> None:
        self.wait()

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        if self._writing is not None and self._writing.done():
            self.wait()
        self._place = trainer.epoch, trainer.offset
        if self.schedule.due(step.step, None, trainer.now - self._last):
            trainer.recovery.keep(trainer)
            self.save(trainer)

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self._place = trainer.epoch + 1, 0
        self.score = epoch.loss if epoch.val_loss is None else epoch.val_loss
        if self.schedule.due(epoch.step, epoch.epoch, trainer.now - self._last):
            trainer.recovery.keep(trainer)
            self.save(trainer)

    def on_fit_end(self, trainer: Any) -> None:
        short = trainer.now - self._began < self.least_s
        if trainer.stopping or not short or self._saved is not None:
            self.save(trainer)
        self.wait()
        if self._writes:
            self._unlock()

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score}

    def load_state_dict(self, state: Any) -> None:
        self.score = state["score"]

    def save(self, trainer: Any) -> None:
        """Save a checkpoint now, unless there is one of this very place; remove what is old."""
        self.wait()
        if self._place == self._saved:
            if self._writes:
                folder.prune(self.folder, self.schedule.keep)
            return
        state = training_state(trainer, *self._place)  # by all processes: each has a part of it
        if self._writes:
            how = trainer.train_batch_idx, state, self.score, list(trainer.listeners)
            self._writing = self._thread.submit(self._write, *how)
        self._saved, self._last = self._place, trainer.now

    def _write(
        self, step: int, state: dict[str, Any], score: float | None, listeners: list[Listener]
    ) -> None:
        """Write a checkpoint, beside the training that goes on."""
        for listener in listeners:
            listener.flush()
        folder.write(self.folder, step, pack(state, state.pop("parameters")), score)
        folder.prune(self.folder, self.schedule.keep)

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk; raise what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The state in the newest whole checkpoint, or None; and what is wrong with later ones."""
        found, problems = folder.newest(self.folder)
        if found is None:
            return None, problems
        state, parameters = unpack(found[1])
        if "objects" in state:
            raise ResumeError(
                f"the checkpoint of step {found[0]} in '{self.folder}' is of a loop of your own: "
                "unrolled.Checkpoints(directory, model, ...).restore() goes on from it"
            )
        if type(state) is not dict or not has_position(state):
            raise ResumeError(
                f"the checkpoint of step {found[0]} in '{self.folder}' lacks its position in the "
                "training; remove it, to go on from an earlier one"
            )
        return {**state, "parameters": parameters}, problems

    def restore(self, trainer: Any, force: bool) -> None:
        """Bring a prepared training to where the newest whole checkpoint was saved.

        Raises:
            ResumeError: there is none, or (without ``force``) what follows would not be the same.
        """
        state, problems = self.newest()
        if state is None:
            raise ResumeError("\n".join([f"'{self.folder}' holds no whole checkpoint", *problems]))
        try:
            state, carried = adopted(trainer, state)
            trainer.data_parallel.check_same({"checkpoint": {"step": state["position"]["step"]}})
            told = [*problems, *carried, *check(trainer, state, force)]
            load_training_state(trainer, state)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise no_fit(self.folder, error) from None
        for text in told if trainer.data_parallel.rank == 0 else ():
            self.tell(text)
        own = trainer.checkpoint
        if own is not None:
            own._place = trainer.epoch, trainer.offset
            own._saved = own._place if own.folder == self.folder else None


def check(trainer: Any, state: dict[str, Any], force: bool) -> list[str]:
    """Compare a training with its checkpoint; return what differs, in sentences.

    Raises:
        ResumeError: something beside the parts of minibatches does, and no ``force``; or there is
            nothing left to train.
    """
    done, offset = state["position"]["epoch"], state["position"]["offset"]
    if done + (offset > 0) > trainer.max_epochs:
        steps = f" and {offset:,} steps" if offset else ""
        raise ResumeError(
            f"{done} epochs{steps} are trained, and max_epochs is {trainer.max_epochs}: it must be "
            f"{done + (offset > 0)} or more"
        )
    differ = check_same(not_the_same(trainer, state), not_exact(trainer, state), force)
    return [*other_parts(trainer, state), *differ]


def as_checkpointing(given: Any) -> Checkpointing:
    """The object itself, or what saves in a run directory every ten minutes."""
    if isinstance(given, Checkpointing):
        return given
    if not isinstance(given, (str, Path)) or str(given).startswith(("every=", "keep=")):
        raise SettingError(
            f"{given!r:.60} names no run directory; give one, or Checkpointing(directory, "
            "'every=1000steps') to say how often"
        )
    return Checkpointing(given)
