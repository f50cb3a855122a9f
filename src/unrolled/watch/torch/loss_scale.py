"""Loss scalers: what the gradients of a step were multiplied by until it was taken back."""

import gc
import math
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch.amp.grad_scaler import GradScaler

from unrolled.errors import SettingError
from unrolled.telemetry.build_records import global_norm
from unrolled.watch.torch.optimizer_steps import Step

RECORD = "_per_optimizer_states"
"""Where a `GradScaler` notes which optimizers' gradients it has divided since its last update."""

MUCH = 100
"""How much smaller than ever the gradients must have been made for a scaler to be looked for."""

UNTOLD = (
    "a loss scaler is in use that watch does not know: norms before clipping and gradients "
    "through time are left out, they would be those of the scaled loss. Call watch(model, "
    "scaler=scaler); in Lightning it is trainer.precision_plugin.scaler, in Accelerate "
    "accelerator.scaler"
)


class LossScale:
    """The factor that the gradients of a step have on their way to the optimizer.

    A scaler registers nowhere. But it takes its factor back before the step, and notes for which
    optimizer: so where gradients have changed, those of this process are asked. Optimizers that
    divide by the factor themselves are told it.

    Args:
        told: a `torch.amp.GradScaler`, or anything else whose ``scale(tensor)`` multiplies by
            the factor; None if nobody has told.

    Raises:
        SettingError: it has no ``scale``.
    """

    def __init__(self, told: Any) -> None:
        if told is not None and not callable(getattr(told, "scale", None)):
            raise SettingError(
                f"scaler is a {type(told).__name__}; expected is a torch.amp.GradScaler, or an "
                "object whose scale(loss) multiplies by the factor"
            )
        self.told = told
        self.known: WeakSet[GradScaler] = WeakSet()
        self.least = math.inf
        self.asked = False

    @torch.no_grad()
    def after_backward(self, step: Step, device: torch.device) -> None:
        """Take the factor that a pass had; the scaler may have another one for the next."""
        if self.told is not None:
            step.scale = self.told.scale(torch.ones((), device=device)).detach().clone()

    def before_step(self, step: Step, optimizer: Any) -> None:
        """Take what scalers have told, or noted of, an optimizer that is about to step."""
        step.skipped = getattr(optimizer, "found_inf", None)
        step.left_scaled = getattr(optimizer, "grad_scale", None)
        step.optimizers.append(optimizer)
        if self.told is None:
            self._take_noted(step)

    def after_part(self, step: Step) -> None:
        """An optimizer has stepped, and others will before the step is complete.

        What scalers have noted may be gone by then, so they are asked now, the first time.
        """
        if self.told is None and not self.asked:
            self._find()
            self._take_noted(step)

    def of(self, step: Step, found: Mapping[Any, list[float]]) -> float | None:
        """The factor that the gradients of a step had after the backward pass.

        Gradients of the same norms before and after had none: nobody has taken it back.

        Args:
            step: of which optimizers have moved weights.
            found: its numbers.

        Returns:
            The factor, 1 if there was none; None if there may have been one that is not known.
        """
        if self.told is None and step.left_scaled is not None:
            return found["left_scaled"][0]
        by_optimizer, quotient = step.skipped is not None, _quotient(found)
        if quotient == 1 and not by_optimizer:
            return 1.0
        if step.scale is not None:
            return found["scale"][0]
        if not by_optimizer and quotient >= self.least / MUCH:
            return 1.0
        new = self._find()
        factor, silent = self._noted(step), any(not hasattr(each, RECORD) for each in self.known)
        if factor is None and (by_optimizer or silent or (new and not step.at_once)):
            return None
        if factor is None:
            self.least = min(self.least, quotient)
        return factor or 1.0

    def _find(self) -> bool:
        """Look for scalers among all objects of this process; whether there is a new one."""
        kinds, self.asked = _with_subclasses(GradScaler), True
        found = WeakSet(x for x in gc.get_objects() if type(x) in kinds and x.is_enabled())
        new = bool(found - self.known)
        self.known |= found
        return new

    def _take_noted(self, step: Step) -> None:
        factor = self._noted(step)
        if factor is not None:
            step.scale = torch.tensor(factor)

    def _noted(self, step: Step) -> float | None:
        """The factor of the scaler that has divided the gradients of a step's optimizers."""
        ids = {id(optimizer) for optimizer in step.optimizers}
        using = (each for each in self.known if ids & getattr(each, RECORD, {}).keys())
        scaler = next(using, None)
        return None if scaler is None else float(scaler.get_scale())


def _with_subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(_with_subclasses, kind.__subclasses__()))


def _quotient(found: Mapping[Any, list[float]]) -> float:
    """By what the norms before the step and after the backward pass differ; 1 if by nothing."""
    after = {key[1]: norm[0] for key, norm in found.items() if key[0] == "clipped"}
    before = {name: found.get(("gradient", name), [math.nan])[0] for name in after}
    if before == after:
        return 1.0
    whole = global_norm(before.values()) or 0.0
    return (global_norm(after.values()) or 0.0) / whole if whole else math.inf
