"""`Recovery`: skips a minibatch that is not finite, or goes back to the last checkpoint."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unrolled.training.not_finite import (
    ROLLBACK,
    SKIP,
    STOP,
    arrays_of,
    check_rollback,
    is_finite,
    place_of,
    stop_not_finite,
    weights_are_finite,
)
from unrolled.training.records import Backward, StepRecord
from unrolled.training.training_state import learned, load_learned

MOST_SKIPPED = 10
"""Minibatches in a row that are skipped at most: so many do not fail by chance."""

MOST_ROLLBACKS = 3
"""Rollbacks to one checkpoint at most: what follows from it fails again and again."""


class Recovery:
    """Skips, rolls back or stops at a loss or gradient that is NaN or infinite.

    In any case the step counts, and its loss does not enter the means of the epoch.

    - ``"stop"`` ends the training with `NotFiniteError`.
    - ``"skip"`` leaves the minibatch out: weights, optimizer and buffers stay as they were before
      it, and so does the hidden state that is carried on; one that is not finite itself is
      dropped. If the weights are no longer finite, the training stops: gradients are finite
      whenever weights move, so the optimizer's own arithmetic has left the range of numbers. No
      minibatch did that, and weights put back would meet the same optimizer state. After
      `MOST_SKIPPED` in a row it stops, too.
    - ``"rollback"`` puts weights, buffers and optimizer back to where the last scheduled checkpoint
      was saved, or to the start before there is one. The training goes on with the next minibatch,
      without a hidden state, as all there is comes from weights that are gone. It stops if
      `MOST_ROLLBACKS` to one checkpoint have not helped. A checkpoint after a step that failed, or
      one with weights that are not finite, is none to go back to.

    What a rollback goes back to is in memory, and in a checkpoint that was saved elsewhere, as when
    a run is told to stop: a run that was resumed goes back to the same place.

    Attributes:
        in_a_row: steps that were not finite, since the last that was.
        rollbacks: to the place that a rollback goes back to.
        kept_step: the step of this place.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.in_a_row = self.rollbacks = self.kept_step = 0
        self._kept: dict[str, Any] | None = None
        self._has_buffers = False
        self._buffers: dict[str, Any] = {}

    def begin(self, trainer: Any) -> None:
        """Make sure that a prepared training can go on, and keep what it starts with.

        Raises:
            SettingError: there are no checkpoints for rollbacks.
        """
        check_rollback(self.policy, trainer.checkpoint and trainer.checkpoint.schedule)
        buffers = trainer.backend.state.buffers(trainer.bound_model)
        self._has_buffers = self.policy == SKIP and bool(buffers)
        self.keep(trainer)

    def keep(self, trainer: Any) -> None:
        """Let rollbacks go back to here from now on."""
        if self.policy == ROLLBACK and self.in_a_row == 0 and weights_are_finite(trainer):
            self._keep(trainer)
            self.rollbacks = 0

    def before_step(self, trainer: Any) -> None:
        """Copy the buffers, which a forward pass may change; only skipping needs them."""
        if self._has_buffers:
            found = trainer.backend.state.buffers(trainer.bound_model)
            self._buffers = trainer.backend.snapshot(found)

    def recover(self, trainer: Any, step: StepRecord, backward: Backward) -> tuple[StepRecord, Any]:
        """Undo a step that is not finite; gives its record, and the hidden state to carry on.

        Raises:
            NotFiniteError: the training stops here.
        """
        why = self._against(trainer)
        if self.policy == STOP or why:
            stop_not_finite(trainer, step, backward, why)
        to = self.kept_step if self.policy == ROLLBACK else None
        step = replace(step, on_nonfinite=self.policy, rolled_back_to=to)
        trainer.notify("on_not_finite", step, backward)
        self.in_a_row += 1
        if self.policy == ROLLBACK:
            self.rollbacks += 1
            load_learned(trainer, copy.deepcopy(self._kept or {}))
        elif self._has_buffers:
            found = trainer.backend.state.buffers(trainer.bound_model)
            known = {name: buffer for name, buffer in found.items() if name in self._buffers}
            trainer.backend.assign(known, self._buffers)
        trainer.train_batch_idx = step.step
        return step, self._state_to_carry(trainer, backward)

    def _state_to_carry(self, trainer: Any, backward: Backward) -> Any:
        if self.policy == ROLLBACK or not backward.carried:
            return None
        finite = all(is_finite(trainer.backend, part) for part in arrays_of(backward.state))
        return backward.state if trainer.data_parallel.all(finite) else None

    def state(self, trainer: Any) -> dict[str, Any]:
        """Return what a checkpoint must keep; ``kept`` is None if that is the checkpoint itself."""
        is_here = self.kept_step == trainer.train_batch_idx
        return {
            "in_a_row": self.in_a_row,
            "rollbacks": self.rollbacks,
            "kept_step": self.kept_step,
            "kept": None if is_here else self._kept,
        }

    def load_state(self, trainer: Any, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, in a training that has its weights back."""
        self.in_a_row, self.rollbacks = state["in_a_row"], state["rollbacks"]
        if self.policy == ROLLBACK:
            self._kept, self.kept_step = state["kept"], state["kept_step"]
            if self._kept is None:
                self._keep(trainer)

    def _keep(self, trainer: Any) -> None:
        self._kept = copy.deepcopy(learned(trainer))
        self.kept_step = trainer.train_batch_idx

    def _against(self, trainer: Any) -> str:
        """Return why a training must stop all the same; empty if it need not."""
        if self.policy == SKIP and not weights_are_finite(trainer):
            return "The weights are no longer finite, so skipping a minibatch cannot help"
        if self.policy == SKIP and self.in_a_row == MOST_SKIPPED:
            return f"The {MOST_SKIPPED} minibatches before it were skipped: look at their data"
        if self.policy == ROLLBACK and self._kept is None:
            return "Nothing was kept to go back to"
        if self.policy == ROLLBACK and self.rollbacks == MOST_ROLLBACKS:
            return (
                f"{place_of(self.kept_step).capitalize()} was gone back to {MOST_ROLLBACKS} times"
            )
        return ""
