"""Facts that remedies must fit: the course of the loss, the optimizer, the clipping."""

from dataclasses import dataclass

import numpy as np

from unrolled.telemetry.findings.finding import largest, median, one_digit, ratio
from unrolled.telemetry.history import ENOUGH, Column, History

ADAPTIVE = ("ada", "rms", "lion", "lamb", "prop", "muon", "sophia", "novograd")
"""In the names of optimizers whose steps do not grow with the gradient."""

PLAIN = ("sgd", "lbfgs", "nag")
"""In the names of those whose steps do."""

ALIKE = 0.02
"""Spread of step length over gradient length, in parts of the median, up to which the one is the
other times a constant: what plain SGD does."""

LEARNED, LEARNS = 0.5, 0.1
"""Fall of the loss, in parts of the first, from which on a training has learned, or learns."""

AT_ZERO = 1e-3
"""A loss below it has nothing left to learn."""

LARGE_UPDATE = 0.01
"""Step length beside that of the weights that a remedy aims at, at most; 1e-3 is usual."""


@dataclass(frozen=True)
class Loss:
    """How the loss went."""

    steps: Column  # those whose loss is known and finite
    values: Column
    first: float
    best: float  # smoothed, as is the last
    last: float
    best_step: float

    @property
    def scale(self) -> float:
        return abs(self.first) or 1.0

    @property
    def fall(self) -> float:
        """How far it fell, in parts of the first."""
        return (self.first - self.last) / self.scale

    @property
    def learned(self) -> bool:
        """Whether it fell far and has kept that, or never had far to fall."""
        if not len(self.values):
            return False
        return self.fall >= LEARNED or (0 <= self.first < AT_ZERO and 0 <= self.last < AT_ZERO)

    @property
    def learns(self) -> bool:
        """Whether it fell and has kept most of it."""
        kept = self.last - self.best <= 0.5 * (self.first - self.best)
        return self.learned or (len(self.values) > 0 and self.fall >= LEARNS and kept)


def loss_of(h: History) -> Loss:
    """The loss of a training; without numbers where nobody has told it, or several take turns."""
    steps, values = h.losses()
    if not len(values) or h.alternates:
        return Loss(steps[:0], values[:0], np.nan, np.nan, np.nan, np.nan)
    size = 1 if len(values) < ENOUGH else max(3, len(values) // 20)
    smooth = np.array([np.median(values[i : i + size]) for i in range(len(values) - size + 1)])
    first, third = float(values[0]), float(np.median(values[:3]))
    if len(values) >= 2 * ENOUGH and third <= first + abs(first):
        first = third  # else it was lost at once
    last = float(np.median(values[-max(size, len(values) // 10) :]))
    place = int(np.argmin(smooth))
    best, best_step = min((float(smooth[place]), steps[place]), (first, steps[0]))
    if first - best < LEARNS * abs(first):
        best_step = steps[0]  # it came no lower but by chance
    return Loss(steps, values, first, best, last, float(best_step))


def is_adaptive(h: History) -> bool | None:
    """Whether the step does not grow with the gradient (Adam and its kin); None if not known."""
    name = (h.optimizer or "").lower()
    if any(part in name for part in ADAPTIVE):
        return True
    if any(part in name for part in PLAIN):
        return False
    quotient = ratio(h.steps["moved"], h.steps["clipped"])
    quotient = quotient[np.isfinite(quotient)]
    if len(quotient) < 5 or not (middle := float(np.median(quotient))) > 0:
        return None
    return False if np.median(abs(quotient - middle)) <= ALIKE * middle else None


@dataclass(frozen=True)
class Clip:
    """The clipping in force."""

    share: float  # of the steps that it acted on
    threshold: float | None  # as told or as seen; None if it is not known, or there are several
    told: bool  # whether the training told its threshold
    by_norm: bool | None  # whether one factor scaled all gradients; None if it never acted
    kept: float  # what it left of a gradient's norm, at the median


def clip_of(h: History) -> Clip:
    """The clipping of a training, by what became of its gradients."""
    coefficient, threshold = h.steps["coefficient"], h.steps["threshold"]
    known = np.isfinite(coefficient)
    told = bool(np.isfinite(threshold).any())
    acted = known & (coefficient < 1 - 1e-4)
    if not acted.any():
        return Clip(0.0, median(threshold) if told else None, told, None, 1.0)
    factors = [ratio(p["clipped"], p["gradient"]) for p in h.parameters.values()]
    spread = [abs(ratio(f, coefficient)[acted] - 1) for f in factors]
    off = largest(np.concatenate(spread)) if spread else 0.0
    by_norm = not off > 0.01
    clipped = h.steps["clipped"][acted]
    same = float(np.median(abs(clipped - np.median(clipped)))) <= 1e-3 * float(np.median(clipped))
    seen = float(np.median(clipped)) if by_norm and same and acted.sum() >= 3 else 0.0
    return Clip(
        float(acted.sum() / known.sum()),
        median(threshold) if told else seen or None,
        told,
        by_norm,
        median(coefficient[known]),
    )


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
    clip, target, rate = clip_of(h), usual, median(h.steps["rate"])
    if target is None and is_adaptive(h) is False and rate > 0:
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
