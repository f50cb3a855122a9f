"""Advice on the learning rate and on clipping, with numbers if they are known."""

import numpy as np

from unrolled.telemetry.columns import largest, median
from unrolled.telemetry.findings.finding import one_digit
from unrolled.telemetry.history import History

LARGE_UPDATE = 0.01
"""Step length beside that of the weights that a remedy aims at, at most; 1e-3 is usual."""


def shorter_steps(h: History, times: float) -> str:
    """Advice to lower the learning rate, by a number of times, with numbers if they are known."""
    times = max(times, 3.0)
    rate = largest(h.steps["rate"])
    if np.isfinite(rate) and rate > 0:
        return f"lower the learning rate from {rate:.3g} to about {one_digit(rate / times)}"
    to = {3: "a third", 10: "a tenth", 100: "a hundredth"}.get(int(times))
    return f"lower the learning rate to {to or f'1/{one_digit(times)}'}"


def clip_advice(h: History, usual: float | None = None) -> str | None:
    """Advice on clipping that fits what is in force; None where it cannot help further.

    ``usual`` is the norm of harmless gradients, if one was seen.
    """
    clip, target, rate = h.clip, usual, median(h.steps["rate"])
    if target is None and h.is_adaptive is False and rate > 0:
        target = LARGE_UPDATE * median(h.steps["weights"][:1]) / rate
    if target is None or not np.isfinite(target) or not target > 0:
        target = 1.0
    if clip.share == 0:
        if clip.told and clip.threshold is not None:
            return f"lower the clipping threshold from {clip.threshold:g} to {one_digit(target)}"
        return f"clip the global norm at about {one_digit(target)}"
    if clip.by_norm and clip.threshold is not None and target < clip.threshold / 2:
        return f"lower the clipping threshold from {clip.threshold:.3g} to {one_digit(target)}"
    if clip.by_norm is False:
        return f"clip the global norm, at about {one_digit(target)}, in the place of values"
    return None
