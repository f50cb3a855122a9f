"""`Checkpointing` saves the state of a training on a schedule, and goes on from what it saved."""

import time
from pathlib import Path
from typing import Any, ClassVar

from unrolled.checkpoints import folder
from unrolled.checkpoints.schedule import Schedule
from unrolled.errors import SettingError
from unrolled.hyperparameters import HyperParameters
from unrolled.training.records import EpochRecord, Listener, StepRecord
from unrolled.training.training_state import (
    load_training_state,
    not_the_same,
    training_state,
)

CHECKPOINTS = "checkpoints"
"""The folder of a run directory that they are in."""


class Checkpointing(Listener, HyperParameters):
    """Saves checkpoints of a training, so that it can go on after whatever ended it.

    A checkpoint is a folder ``<directory>/checkpoints/step-000123``: see
    `unrolled.checkpoints.folder`. It is there whole or not at all. `Trainer.fit` goes on from it
    with ``resume=directory``, and computes what it would have computed without the break, to the
    byte: weights, optimizer, order of the minibatches, random draws, logs.

    Args:
        directory: the run directory.
        every: how often: ``"1000steps"``, ``"5epochs"`` or ``"10min"``. There is one at the end
            of the training in any case.
        keep: so many of the last ones are kept, and the best one: that after the epoch with the
            smallest loss, on the validation data where there are any.
        part: the model's name, where a run trains several; they have a folder each.
        least_s: a training that ends sooner by itself leaves no checkpoint, unless one was due.

    Example:
        >>> import tempfile
        >>> from unrolled import torch
        >>> run = tempfile.mkdtemp()
        >>> data = torch.TextData("hello world " * 100, batch_size=4, num_steps=10, seed=0)
        >>> model = torch.LanguageModel(len(data.vocab), num_hiddens=8, seed=0)
        >>> torch.Trainer(2, checkpoint=torch.Checkpointing(run, "1epoch")).fit(model, data)
        >>> again = torch.LanguageModel(len(data.vocab), num_hiddens=8, seed=1)
        >>> trainer = torch.Trainer(max_epochs=3)
        >>> trainer.fit(again, data, resume=run)
        >>> trainer.train_batch_idx == 3 * trainer.num_train_batches
        True
    """

    takes_rows: ClassVar[bool] = True
    part: str | None
    least_s: float

    def __init__(
        self,
        directory: str | Path,
        every: str = "10min",
        keep: int = 2,
        part: str | None = None,
        least_s: float = 0,
    ) -> None:
        self.save_hyperparameters()
        self.schedule = Schedule.parse(f"every={every},keep={keep}")
        self.folder = Path(directory) / CHECKPOINTS / (part or "")
        self.score: float | None = None

    def on_fit_start(self, trainer: Any) -> None:
        if not trainer.fit_epoch.__module__.startswith("unrolled."):
            raise SettingError(
                f"checkpoint= cannot see into {trainer.fit_epoch.__qualname__}, which is your own; "
                "in a loop of your own take unrolled.Checkpoints"
            )
        trainer.position.keep()
        self._place, self._saved = (trainer.epoch, trainer.offset), None
        self._began = self._last = time.monotonic()

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        self._place = trainer.epoch, trainer.offset
        if self.schedule.due(step.step, None, time.monotonic() - self._last):
            self.save(trainer)

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        self._place = trainer.epoch + 1, 0
        self.score = epoch.loss if epoch.val_loss is None else epoch.val_loss
        if self.schedule.due(epoch.step, epoch.epoch, time.monotonic() - self._last):
            self.save(trainer)

    def on_fit_end(self, trainer: Any) -> None:
        short = time.monotonic() - self._began < self.least_s
        if trainer.stopping or not short or self._saved is not None:
            self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score}

    def load_state_dict(self, state: Any) -> None:
        self.score = state["score"]

    def save(self, trainer: Any) -> None:
        """Save a checkpoint now, unless there is one of this very place."""
        if self._place != self._saved:
            state = training_state(trainer, *self._place)
            parameters = state.pop("parameters")
            files = folder.pack(state, parameters)
            folder.write(self.folder, trainer.train_batch_idx, files, self.score)
            folder.prune(self.folder, self.schedule.keep)
            self._saved, self._last = self._place, time.monotonic()

    def restore(self, trainer: Any, force: bool) -> None:
        """Bring a prepared training to where the newest whole checkpoint was saved."""
        step, files, problems = folder.newest(self.folder)
        state = folder.unpack(files)
        differ = not_the_same(trainer, state)
        load_training_state(trainer, state)


def as_checkpointing(given: Any) -> Checkpointing:
    """The object itself, or what saves in a run directory every ten minutes."""
    return given if isinstance(given, Checkpointing) else Checkpointing(given)
