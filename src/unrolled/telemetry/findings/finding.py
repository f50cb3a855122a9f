"""`Finding`, and how rules compute with columns and put numbers into words."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unrolled.telemetry.history import Column

SERIOUS, WARNING, NOTE = SEVERITIES = "serious", "warning", "note"

LASTING = 0.95
"""Share of the remaining steps for which something must hold to count as lasting: a single
lucky minibatch is no recovery."""


@dataclass(frozen=True)
class Finding:
    """One thing that the diagnosis has found.

    Attributes:
        name: what it is, as ``"exploded"``.
        severity: ``"serious"``: the training has failed or will; ``"warning"``: it learns
            less than it could; ``"note"``: worth knowing.
        text: what was seen, in plain words.
        step: where it began; None if it concerns all of the training.
        parameter: the parameter, layer or tensor; None if it concerns all.
        numbers: what it was judged by.
        remedy: what to try.
        follows_from: name of the finding that caused it; None if it has a cause of its own.
    """

    name: str
    severity: str
    text: str
    step: int | None = None
    parameter: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    remedy: str = ""
    follows_from: str | None = None


Findings = Iterator[Finding]


def lasting(holds: npt.NDArray[np.bool_], known: Column) -> int | None:
    """The first row from which on something holds nearly always, for long enough."""
    rows = np.flatnonzero(np.isfinite(known))
    if len(rows) < 5:
        return None
    held = holds[rows].astype(float)
    share = np.cumsum(held[::-1])[::-1] / np.arange(len(held), 0, -1)
    begins = np.flatnonzero((share >= LASTING) & (held == 1))
    if not len(begins) or len(rows) - begins[0] < max(5, len(rows) // 10):
        return None
    return int(rows[begins[0]])


def median(values: Column) -> float:
    """The median of what is finite; NaN if nothing is."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan


def mean(values: Column) -> float:
    """The mean of all but NaN; NaN if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def largest(values: Column) -> float:
    """The largest of what is finite; NaN if nothing is."""
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else math.nan


def ratio(over: Column, under: Column) -> Column:
    """A quotient, row by row; NaN where the divisor is not above 0."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(over / np.where(under > 0, under, np.nan))


def one_digit(value: float) -> str:
    """A number for advice."""
    return f"{float(f'{value:.1g}'):g}"


def either(advice: Iterable[str | None]) -> str:
    """Pieces of advice as alternatives."""
    return ", or ".join(each for each in advice if each)


def percent(share: float) -> str:
    """A share as a percentage with at most two digits."""
    return f"{float(f'{100 * share:.2g}'):g}%"


def some(names: list[str]) -> str:
    """The first of several names, and how many more: ``W and 2 more``."""
    if len(names) < 3:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"
