"""Facts that findings and remedies must fit: `Loss`, `Clip`, and whether an optimizer adapts."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from unrolled.telemetry.columns import ENOUGH, Column, Table, largest, median, ratio

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


def course_of(steps: Column, values: Column) -> Loss:
    """How a loss went, from what is known of it and finite."""
    if not len(values):
        return Loss(steps, values, np.nan, np.nan, np.nan, np.nan)
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


def is_adaptive(optimizer: str, steps: Table) -> bool | None:
    """Whether the step does not grow with the gradient (Adam and its kin); None if not known."""
    if any(part in optimizer.lower() for part in ADAPTIVE):
        return True
    if any(part in optimizer.lower() for part in PLAIN):
        return False
    quotient = ratio(steps["moved"], steps["clipped"])
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


def clip_of(steps: Table, parameters: Iterable[Table]) -> Clip:
    """The clipping of a training, by what became of its gradients."""
    coefficient, threshold = steps["coefficient"], steps["threshold"]
    known = np.isfinite(coefficient)
    told = bool(np.isfinite(threshold).any())
    acted = known & (coefficient < 1 - 1e-4)
    if not acted.any():
        return Clip(0.0, median(threshold) if told else None, told, None, 1.0)
    factors = [ratio(p["clipped"], p["gradient"]) for p in parameters]
    spread = [abs(ratio(f, coefficient)[acted] - 1) for f in factors]
    off = largest(np.concatenate(spread)) if spread else 0.0
    by_norm = not off > 0.01
    clipped = steps["clipped"][acted]
    same = float(np.median(abs(clipped - np.median(clipped)))) <= 1e-3 * float(np.median(clipped))
    seen = float(np.median(clipped)) if by_norm and same and acted.sum() >= 3 else 0.0
    return Clip(
        float(acted.sum() / known.sum()),
        median(threshold) if told else seen or None,
        told,
        by_norm,
        median(coefficient[known]),
    )
