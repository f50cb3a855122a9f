"""`Table`: columns of numbers by name, and what findings compute of columns."""

import math
from array import array
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]

ENOUGH = 20
"""Values from which on a trend can be told from noise."""

LASTING = 0.95
"""Share of the remaining steps for which something must hold to count as lasting: a single
lucky minibatch is no recovery."""


class Table:
    """Columns of equal length by name; NaN where a row has no value, which takes no memory."""

    def __init__(self) -> None:
        self.length = 0
        self._columns: dict[str, tuple[array[int], array[float]]] = {}  # rows, and their values

    def add(self, row: int, values: Mapping[str, float | None]) -> None:
        """Set the values of a new row; rows left out are NaN."""
        self.length = max(self.length, row + 1)
        for name, value in values.items():
            if value is not None:
                if name not in self._columns:
                    self._columns[name] = array("q"), array("d")
                rows, held = self._columns[name]
                rows.append(row)
                held.append(value)

    def __getitem__(self, name: str) -> Column:
        column = np.full(self.length, np.nan)
        if name in self._columns:
            rows, held = self._columns[name]
            column[np.array(rows)] = np.array(held)
        return column


def lasting(holds: npt.NDArray[np.bool_], known: Column) -> int | None:
    """The first row from which on something holds nearly always, for long enough."""
    rows = np.flatnonzero(np.isfinite(known))
    if len(rows) < 5:
        return None
    begins = np.flatnonzero((share_of_rest(holds[rows]) >= LASTING) & holds[rows])
    if not len(begins) or len(rows) - begins[0] < max(5, len(rows) // 10):
        return None
    return int(rows[begins[0]])


def share_of_rest(holds: npt.NDArray[np.bool_]) -> Column:
    """From each row on, the share of the rows for which something holds."""
    return np.asarray(np.cumsum(holds[::-1])[::-1] / np.arange(len(holds), 0, -1))


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
