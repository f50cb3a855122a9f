"""Policies at a NaN or infinity; stop with `NotFiniteError`, and put the last good weights back."""

import dataclasses
import math
from typing import Any, NoReturn

from unrolled.backends import Array, Backend
from unrolled.checkpoints.schedule import Schedule
from unrolled.errors import NotFiniteError, SettingError, did_you_mean
from unrolled.training.records import Backward, StepRecord

STOP, SKIP, ROLLBACK = POLICIES = ("stop", "skip", "rollback")


def check_policy(on_nonfinite: str) -> None:
    """Make sure that it is one of `POLICIES`."""
    if on_nonfinite not in POLICIES:
        raise SettingError(
            f"unknown on_nonfinite '{on_nonfinite}': {did_you_mean(on_nonfinite, POLICIES)}"
        )


def check_rollback(on_nonfinite: str, schedule: Schedule | None) -> None:
    """Make sure that a rollback has checkpoints to go back to, the same ones in every run.

    Raises:
        SettingError: there are none, or they are due by the clock.
    """
    if on_nonfinite == ROLLBACK and (schedule is None or schedule.unit == "s"):
        given = "there are none" if schedule is None else "they are due by the clock"
        raise SettingError(
            f"on_nonfinite=rollback goes back to the last checkpoint, and {given}. Save one every "
            "so many steps or epochs, as every=1epoch: then the same seed gives the same numbers, "
            "however fast the machine is"
        )


def is_finite(backend: Backend, array: Array) -> bool:
    """Whether an array is free of NaN and infinity; integers always are."""
    # x - x is 0 for every number, however large, except for infinity and NaN
    return backend.xp.is_integer(array) or not math.isnan(float(backend.xp.sum(array - array)))


def arrays_of(state: Any) -> list[Array]:
    """The arrays of a hidden state, which may be nested; none of None."""
    if state is None:
        return []
    if isinstance(state, (tuple, list)):
        return [array for part in state for array in arrays_of(part)]
    return [state]


def weights_are_finite(trainer: Any) -> bool:
    """Whether all weights of a training are numbers."""
    with trainer.backend.without_gradients():
        return all(is_finite(trainer.backend, p) for p in trainer.parameters.values())


def place_of(step: int) -> str:
    """The place that a rollback goes back to, in words.

    Example:
        >>> place_of(1200), place_of(0)
        ('the checkpoint of step 1,200', 'the start')
    """
    return f"the checkpoint of step {step:,}" if step else "the start"


def what_was_done(step: Any) -> str:
    """Say what a training did about a step that was not finite."""
    if step.on_nonfinite == "skip":
        return "minibatch skipped"
    if step.on_nonfinite == "rollback":
        return f"rolled back to {place_of(step.rolled_back_to)}"
    return "training stopped"


def stop_not_finite(trainer: Any, step: StepRecord, backward: Backward, why: str = "") -> NoReturn:
    """End a training whose loss or gradient is not finite, before the weights move.

    ``why`` is a sentence about what else could have been done.
    """
    if math.isfinite(step.loss):
        what = f"the gradient became {step.gradient_norm} (the loss is still {step.loss:.4g})"
        _stop(trainer, step, backward, what, why, restoring=False)
    _stop(trainer, step, backward, f"the loss became {step.loss}", why)


def check_weights(trainer: Any) -> None:
    """Check the weights after the last step, which no further loss will tell of.

    No minibatch is left to go on with: this stops whatever ``on_nonfinite`` says.
    """
    if trainer.train_batch_idx and not weights_are_finite(trainer):
        epoch, step = trainer.epoch + 1, trainer.train_batch_idx
        nothing = StepRecord(epoch, step, math.nan, 0, math.nan, math.nan)
        _stop(trainer, nothing, None, "the weights became infinite or NaN")


def _stop(
    trainer: Any,
    step: StepRecord,
    backward: Backward | None,
    what: str,
    why: str = "",
    restoring: bool = True,
) -> NoReturn:
    trainer.notify("on_not_finite", dataclasses.replace(step, on_nonfinite=STOP), backward)
    if restoring and trainer.last_good is not None:
        trainer.parameters = trainer.backend.assign(trainer.parameters, trainer.last_good)
    clip = (
        f"a gradient_clip_val below {trainer.gradient_clip_val:g}"
        if trainer.gradient_clip_val
        else "clipping the gradients (gradient_clip_val, where there is such a setting)"
    )
    advice = (
        "No weight has moved yet: look at the data and at the initial values"
        if trainer.last_good is None
        else f"Try a smaller lr (a tenth), or {clip}"
    )
    raise NotFiniteError(
        f"{what} in epoch {step.epoch}, step {step.step}; training stopped, and the model keeps "
        f"the last weights that gave a finite loss. {f'{why}. ' if why else ''}{advice}",
        epoch=step.epoch,
        step=step.step,
    )
