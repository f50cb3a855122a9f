"""End training with `NotFiniteError` at a NaN or infinity; put the last good weights back."""

import math
from typing import Any, NoReturn

from unrolled.errors import NotFiniteError
from unrolled.training.records import Backward, StepRecord


def stop_not_finite(trainer: Any, step: StepRecord, backward: Backward) -> NoReturn:
    """End a training whose loss or gradient is not finite, before the weights move."""
    if math.isfinite(step.loss):
        what = f"the gradient became {step.gradient_norm} (the loss is still {step.loss:.4g})"
        _stop(trainer, step, backward, what, restoring=False)
    _stop(trainer, step, backward, f"the loss became {step.loss}")


def check_weights(trainer: Any) -> None:
    """Check the weights after the last step, which no further loss will tell of."""
    if trainer.train_batch_idx == 0:
        return
    with trainer.backend.without_gradients():
        # x - x is 0 for every number, however large, but for infinity and NaN
        sums = [float(trainer.backend.xp.sum(p - p)) for p in trainer.parameters.values()]
    if any(map(math.isnan, sums)):
        epoch, step = trainer.epoch + 1, trainer.train_batch_idx
        nothing = StepRecord(epoch, step, math.nan, 0, math.nan, math.nan)
        _stop(trainer, nothing, None, "the weights became infinite or NaN")


def _stop(
    trainer: Any, step: StepRecord, backward: Backward | None, what: str, restoring: bool = True
) -> NoReturn:
    trainer.notify("on_not_finite", step, backward)
    if restoring and trainer.last_good is not None:
        trainer.parameters = trainer.backend.assign(trainer.parameters, trainer.last_good)
    clip = (
        f"a gradient_clip_val below {trainer.gradient_clip_val:g}"
        if trainer.gradient_clip_val
        else "clipping the gradients (gradient_clip_val, where there is such a setting)"
    )
    advice = (
        "No weight has moved yet: look at the data and at the initial values"
        if step.step == 1 and trainer.last_good is None
        else f"Try a smaller lr (a tenth), or {clip}"
    )
    raise NotFiniteError(
        f"{what} in epoch {step.epoch}, step {step.step}; training stopped, and the model keeps "
        f"the last weights that gave a finite loss. {advice}",
        epoch=step.epoch,
        step=step.step,
    )
