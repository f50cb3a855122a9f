"""Stop a training whose loss, gradient or weights became NaN or infinite."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.errors import NotFiniteError
from unrolled.training.records import Backward, Listener, StepRecord


class Divergence:
    """The part of a trainer that checks whether everything is finite.

    Attributes:
        last_good: a copy of the last weights that gave a finite loss, of large tables only the
            rows that have moved since; None before any did.
    """

    backend: ClassVar[Backend]
    listeners: Sequence[Listener]
    parameters: dict[str, Any]
    last_good: dict[str, Any] | None
    gradient_clip_val: float
    epoch: int
    train_batch_idx: int

    def check_step(self, step: StepRecord, backward: Backward) -> None:
        """Loss and gradient of a minibatch, before the weights move."""
        if math.isfinite(step.loss) and math.isfinite(step.gradient_norm):
            return
        for listener in self.listeners:
            listener.on_not_finite(self, step, backward)
        if not math.isfinite(step.loss):
            what = f"the loss became {step.loss}"
            self._restore()
        else:
            what = f"the gradient became {step.gradient_norm} (the loss is still {step.loss:.4g})"
        raise self._not_finite(what, step.step)

    def check_weights(self) -> None:
        """The weights after the last step, which no further loss will tell of."""
        if self.train_batch_idx == 0:
            return
        with self.backend.without_gradients():
            # x - x is 0 for every number, however large, but for infinity and NaN
            sums = [float(self.backend.xp.sum(p - p)) for p in self.parameters.values()]
        if any(map(math.isnan, sums)):
            nothing = StepRecord(
                self.epoch + 1, self.train_batch_idx, math.nan, 0, math.nan, math.nan
            )
            for listener in self.listeners:
                listener.on_not_finite(self, nothing, None)
            self._restore()
            raise self._not_finite("the weights became infinite or NaN", self.train_batch_idx)

    def _restore(self) -> None:
        if self.last_good is not None:
            self.parameters = self.backend.assign(self.parameters, self.last_good)

    def _not_finite(self, what: str, step: int) -> NotFiniteError:
        epoch = self.epoch + 1
        clip = (
            f"a gradient_clip_val below {self.gradient_clip_val:g}"
            if self.gradient_clip_val
            else "clipping the gradients (gradient_clip_val, where there is such a setting)"
        )
        advice = (
            "No weight has moved yet: look at the data and at the initial values"
            if step == 1 and self.last_good is None
            else f"Try a smaller lr (a tenth), or {clip}"
        )
        return NotFiniteError(
            f"{what} in epoch {epoch}, step {step}; training stopped, and the model keeps the "
            f"last weights that gave a finite loss. {advice}",
            epoch=epoch,
            step=step,
        )
