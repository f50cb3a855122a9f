"""`StepRecord`, `EpochRecord`, `Backward` (its gradients), and `Listener`, to subclass."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unrolled.training.tracing import ThroughTime


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One minibatch.

    Attributes:
        epoch: from 1.
        step: from 1, counted over the whole training.
        loss: mean over the targets of the minibatch, before the update.
        num_targets: how many those are.
        gradient_norm: global L2 norm before clipping.
        clipped_norm: the same after clipping.
        on_nonfinite: of a loss or gradient that is NaN or infinite what the training did,
            ``"stop"``, ``"skip"`` or ``"rollback"``; None of all others.
        rolled_back_to: the step of the checkpoint that a rollback went back to; 0 for the start.
    """

    epoch: int
    step: int
    loss: float
    num_targets: int
    gradient_norm: float
    clipped_norm: float
    on_nonfinite: str | None = None
    rolled_back_to: int | None = None


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One pass over the training data.

    Steps whose loss or gradient was NaN or infinite count in ``not_finite`` and nowhere else; the
    means are NaN if there was no other step.

    Attributes:
        epoch: from 1.
        step: of its last minibatch.
        loss: mean over all targets of the epoch.
        val_loss: the same over the validation data; None without any.
        gradient_norm, clipped_norm: means over the steps, before and after clipping.
        gradient_norm_max: the largest before clipping.
        num_targets: how many targets were trained on.
        train_s: seconds of training, validation not counted.
        timed_targets: how many targets were trained on in that time: all, or fewer where the
            epoch was begun by a process that has ended.
        not_finite: how many steps were skipped or rolled back.
    """

    epoch: int
    step: int
    loss: float
    val_loss: float | None
    gradient_norm: float
    gradient_norm_max: float
    clipped_norm: float
    num_targets: int
    train_s: float
    timed_targets: int
    not_finite: int = 0

    @property
    def targets_per_s(self) -> float:
        """Targets trained on per second."""
        return self.timed_targets / self.train_s


@dataclass
class EpochSums:
    """Sums over the steps of an epoch, of which its record is made."""

    steps: int = 0
    num_targets: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    gradient_norm_max: float = 0.0
    clipped_norm: float = 0.0
    not_finite: int = 0

    def add(self, step: StepRecord) -> None:
        """Add a step; the loss of a smaller last minibatch weighs less."""
        if step.on_nonfinite is not None:
            self.not_finite += 1
            return
        self.steps += 1
        self.num_targets += step.num_targets
        self.loss += step.loss * step.num_targets
        self.gradient_norm += step.gradient_norm
        self.gradient_norm_max = max(self.gradient_norm_max, step.gradient_norm)
        self.clipped_norm += step.clipped_norm

    def record(
        self, epoch: int, step: int, val_loss: float | None, train_s: float, timed_targets: int
    ) -> EpochRecord:
        """The record of an epoch of one or more steps, the last of which is ``step``."""
        return EpochRecord(
            epoch=epoch,
            step=step,
            loss=self.loss / self.num_targets if self.steps else math.nan,
            val_loss=val_loss,
            gradient_norm=self.gradient_norm / self.steps if self.steps else math.nan,
            gradient_norm_max=self.gradient_norm_max if self.steps else math.nan,
            clipped_norm=self.clipped_norm / self.steps if self.steps else math.nan,
            num_targets=self.num_targets,
            train_s=train_s,
            timed_targets=timed_targets,
            not_finite=self.not_finite,
        )


@dataclass(frozen=True)
class Backward:
    """What is known of a minibatch between backward and step, as arrays of the framework.

    Attributes:
        batch: the minibatch.
        state: what it began with; None for the zero state.
        carried: whether that is the state after the minibatch before.
        loss: a scalar.
        gradients, clipped: by parameter name, before and after clipping.
        through_time: gradients through time, of a step that a listener asked to trace; else
            None.
    """

    batch: Any
    state: Any
    carried: bool
    loss: Any
    gradients: Mapping[str, Any]
    clipped: Mapping[str, Any]
    through_time: ThroughTime | None


class Listener:
    """Hears of a training's events; override what is of interest.

    A listener only looks: it changes neither gradients nor weights. Arrays that it is given
    may be overwritten once the next event comes.

    Attributes:
        takes_rows: whether it can deal with the gradient of a large table as the rows alone
            that a minibatch looked up, in PyTorch a sparse tensor.
    """

    takes_rows: ClassVar[bool] = False

    def on_fit_start(self, trainer: Any) -> None:
        """Model, data and optimizer are ready."""

    def on_batch(self, trainer: Any, step: int) -> bool:
        """A minibatch begins, the ``step``-th from 1.

        Returns:
            Whether to trace its recurrences, for gradients through time.
        """
        return False

    def on_gradients(self, trainer: Any, gradients: dict[str, Any]) -> None:
        """Backward is done; gradients by parameter name, before clipping."""

    def on_backward(self, trainer: Any, backward: Backward) -> None:
        """Gradients are clipped; the weights are still those that gave the loss."""

    def on_not_finite(self, trainer: Any, step: StepRecord, backward: Backward | None) -> None:
        """Something became NaN or infinite; ``step.on_nonfinite`` says what is about to be done.

        The weights are still those of the failing step. ``backward`` is None if they
        themselves became infinite in the last step of the training. Unless the training stops,
        `on_step` follows.
        """

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        """A step is done: the optimizer has moved the weights.

        If ``step.on_nonfinite`` is not None, it has not, and the loss or the norms are no numbers.
        """

    def on_epoch(self, trainer: Any, epoch: EpochRecord) -> None:
        """A pass over the data, and the validation after it, are done."""

    def on_fit_end(self, trainer: Any) -> None:
        """The training is over: all epochs are done, or `Trainer.stop` was called."""

    def state_dict(self) -> Any:
        """Return what a checkpoint must keep of the listener; None: nothing.

        A tree of numbers, texts and arrays of NumPy, see `unrolled.checkpoints.tree`.
        """
        return None

    def flush(self) -> None:
        """Flush what the listener has written to the disk.

        Called before a checkpoint is written, from the thread that writes it.
        """

    def load_state_dict(self, state: Any) -> None:
        """Go on from what `state_dict` gave; called after `on_fit_start`."""
