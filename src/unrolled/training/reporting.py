"""Tell listeners of events, make the record of a step, validate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from unrolled.training.clipping import Clipping
from unrolled.training.records import Listener, StepRecord


class Reporting(Clipping):
    """The part of a trainer that makes numbers of arrays, and tells them."""

    listeners: Sequence[Listener]
    epoch: int
    train_batch_idx: int
    val_batch_idx: int
    val_dataloader: Any
    prepare_batch: Callable[..., Any]
    _stack: Callable[..., Any]
    _running: tuple[Any, Any]

    def notify(self, event: str, *what: Any) -> None:
        """Call a method of every listener, named in `Listener`."""
        for listener in self.listeners:
            getattr(listener, event)(self, *what)

    def record(self, batch: Any, *scalars: Any) -> StepRecord:
        """The record of a step; loss and norms leave the device together."""
        loss, norm, clipped_norm = self.backend.to_numpy(self._stack(scalars)).tolist()
        targets = math.prod(batch[-1].shape)
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

    def running_loss(self) -> float:
        """The mean loss of the running minibatch, for who hears of `Listener.on_gradients`."""
        batch, loss = self._running
        return self.mean_loss(float(loss), math.prod(batch[-1].shape))

    def mean_loss(self, loss: float, targets: int) -> float:
        """The mean over the targets of what the model's `Module.loss` gave."""
        summed = getattr(self.model, "reduction", "mean") == "sum"
        return loss / targets if summed else loss

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
