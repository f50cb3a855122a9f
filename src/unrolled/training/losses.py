"""The part of the trainer that reads numbers: a step's record, and the mean validation loss."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.training.data_parallel import DataParallel, is_sum
from unrolled.training.records import StepRecord


class Losses:
    """The part of a trainer that makes numbers of losses and norms."""

    backend: ClassVar[Backend]
    model: Any
    epoch: int
    train_batch_idx: int
    val_batch_idx: int
    val_dataloader: Any
    gradient_clip_val: float
    gradient_clip_method: str
    reader_clips: bool
    prepare_batch: Callable[[Any], Any]
    data_parallel: DataParallel
    _stack: Callable[..., Any]
    _running: tuple[Any, Any]

    def record(self, batch: Any, loss: Any, norm: Any, clipped_norm: Any) -> StepRecord:
        """The record of a step; loss and norms leave the device together."""
        if loss.shape != ():
            loss = self.backend.xp.reshape(loss, ())
        scalars = self.backend.to_numpy(self._stack([loss, norm, clipped_norm])).tolist()
        loss, norm, clipped_norm = scalars
        targets = self.data_parallel.num_targets(batch)
        if self.gradient_clip_method == "global_norm" and not self.reader_clips:
            clipped_norm = min(norm, self.gradient_clip_val or norm)  # exactly
        return StepRecord(
            epoch=self.epoch + 1,
            step=self.train_batch_idx + 1,
            loss=self.mean_loss(loss, targets),
            num_targets=targets,
            gradient_norm=norm,
            clipped_norm=clipped_norm,
        )

    def mean_loss(self, loss: float, targets: int) -> float:
        """The mean over the targets of what the model's `Module.loss` gave."""
        return loss / targets if is_sum(self.model) else loss

    def running_loss(self) -> float:
        """The mean loss of the running minibatch, for who hears of `Listener.on_gradients`."""
        batch, loss = self._running
        return self.mean_loss(float(loss), self.data_parallel.num_targets(batch))

    def validate(self) -> float | None:
        """Mean validation loss; None where there is nothing to validate on."""
        if self.val_dataloader is None:
            return None
        self.backend.set_training(self.model, False)
        total, count = 0.0, 0
        for batch in self.val_dataloader:
            batch = self.prepare_batch(batch)
            with self.backend.without_gradients():
                loss = self.validation_step(batch)
            self.val_batch_idx += 1
            if loss is not None:
                targets = math.prod(batch[-1].shape)
                total += self.mean_loss(float(loss), targets) * targets
                count += targets
        return total / count if count else None

    def validation_step(self, batch: Any) -> Any:
        """The loss of a validation minibatch; None if the model gives none."""
        return self.model.validation_step(batch)
