"""Norms of parameters and updates, computed from a framework's arrays; rounding of numbers."""

import math
from collections.abc import Iterable, Sequence

from unrolled.backends.namespace import Array, Namespace
from unrolled.backends.rows import SparseRows

DECIMAL = "%.7g"
"""How a recorded number is written: with as many significant digits as float32 has."""


def norms(xp: Namespace, arrays: Sequence[Array]) -> Array:
    """The L2 norm of each array, as one vector; of at least one array."""
    measured = xp.norms(arrays) if xp.norms is not None else None
    if measured is not None:
        return measured
    return xp.concat([xp.reshape(xp.sqrt(xp.sum_squares(x)), (1,)) for x in arrays], 0)


def changes(xp: Namespace, new: Sequence[Array], old: Sequence[Array | SparseRows]) -> Array:
    """How far each array has moved, ``||new - old||``, as one vector.

    Of a table ``old`` may hold only the rows that may have moved.
    """
    whole = not any(isinstance(before, SparseRows) for before in old)
    measured = xp.norms(new, old) if xp.norms is not None and whole else None
    if measured is not None:
        return measured
    moved = [
        # of rows only their own difference: the others are as they were
        xp.take(after, before.ids) - before.values
        if isinstance(before, SparseRows)
        else after - before
        for after, before in zip(new, old, strict=True)
    ]
    return norms(xp, moved)


def rounded(x: float) -> float:
    """A number with as many digits as float32 has; NaN and infinity as they are."""
    return float(DECIMAL % x)


def all_rounded(numbers: Iterable[float]) -> list[float]:
    """`rounded` of each number; many are done sooner without a call for each."""
    return list(map(float, map(DECIMAL.__mod__, numbers)))


def coefficient(before: float, after: float) -> float:
    """What clipping multiplied a gradient by, from its norms before and after."""
    return after / before if 0 < before < math.inf else 1.0
