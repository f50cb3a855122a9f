"""`LossScale`: what a loss scaler multiplied the gradients of a step by until it took it back."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from unrolled.errors import SettingError
from unrolled.telemetry.build_records import global_norm
from unrolled.watch.torch.step import Step
from unrolled.watch.torch.tree import tensors_in

MUCH = 1000
"""How much smaller gradients are made, by a scaler or by clipping, before a note asks which."""

UNTOLD = (
    "a loss scaler is in use that watch was not told of: norms before clipping and gradients "
    "through time are left out, they would be those of the scaled loss. Call watch(model, "
    "scaler=scaler); in Lightning it is trainer.precision_plugin.scaler, in Accelerate "
    "accelerator.scaler"
)

ASKED = (
    f"between a backward pass and its step the gradients were made more than {MUCH} times smaller. "
    "If a loss scaler did that, and not clipping alone, call watch(model, scaler=scaler): else "
    "norms before clipping and gradients through time are those of the scaled loss"
)


class LossScale:
    """The factor that the gradients of a step have on their way to the optimizer.

    A scaler registers nowhere, so it has to be told. Without, three things are seen: optimizers
    that divide by the factor themselves hold it, those that a scaler asks to skip steps have
    ``found_inf``, and modules whose outputs are in float16, as autocast makes them, need a scaler.
    """

    def __init__(self, told: Any) -> None:
        if told is not None and not callable(getattr(told, "scale", None)):
            raise SettingError(
                f"scaler is a {type(told).__name__}; expected is a torch.amp.GradScaler, or an "
                "object whose scale(loss) multiplies by the factor"
            )
        self.told, self.in_half = told, False

    def after_leaf(self, module: nn.Module, output: Any) -> None:
        """A module without modules inside has run."""
        first = next(module.parameters(recurse=False), None)
        if first is not None and first.dtype is torch.float32 and not self.in_half:
            self.in_half = any(each.dtype is torch.float16 for each in tensors_in(output))

    @torch.no_grad()
    def after_backward(self, step: Step, device: torch.device) -> None:
        """Take the factor that a pass had; the scaler may have another one for the next."""
        if self.told is not None:
            step.scale = self.told.scale(torch.ones((), device=device)).detach().clone()

    def before_step(self, step: Step, optimizer: Any) -> None:
        """Take what a scaler has told an optimizer that is about to step."""
        step.skipped = getattr(optimizer, "found_inf", None)
        step.left_scaled = getattr(optimizer, "grad_scale", None)

    def of(self, step: Step, found: Mapping[Any, list[float]]) -> tuple[float | None, str | None]:
        """The factor that the gradients of a step had after the backward pass, and what to say.

        It is None if there may have been one that is not known.
        """
        if self.told is None and step.left_scaled is not None:
            return found["left_scaled"][0], None
        by_optimizer, quotient = step.skipped is not None, _quotient(found)
        if quotient == 1 and not by_optimizer:
            return 1.0, None  # nobody has taken anything back
        if step.scale is not None:
            return found["scale"][0], None
        if by_optimizer or self.in_half:
            return None, UNTOLD
        return 1.0, ASKED if quotient < 1 / MUCH else None


def _quotient(found: Mapping[Any, list[float]]) -> float:
    """The norm before the step, divided by that after the backward pass; 1 if nothing changed."""
    after = {key[1]: norm[0] for key, norm in found.items() if key[0] == "clipped"}
    before = {name: found.get(("gradient", name), [math.nan])[0] for name in after}
    if before == after:
        return 1.0
    whole = global_norm(before.values()) or 0.0
    return (global_norm(after.values()) or 0.0) / whole if whole else math.inf
