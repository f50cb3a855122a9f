"""Norms of parameters and updates, computed from a framework's arrays."""

import math
from collections.abc import Iterable, Sequence

from unrolled.backends.namespace import Array, Namespace
from unrolled.backends.rows import SparseRows

DIGITS = 7
"""Significant digits of a recorded number: those that float32 has."""

DECIMAL = f"%.{DIGITS}g"
"""How such a number is written."""


def norms(xp: Namespace, arrays: Sequence[Array]) -> Array:
    """The L2 norm of each array, as one vector.

    Args:
        xp: array namespace.
        arrays: of any shapes, at least one.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> norms(xp, [np.array([3.0, 4.0]), np.array([[2.0]])])
        array([5., 2.])
    """
    measured = xp.norms(arrays) if xp.norms is not None else None
    if measured is not None:
        return measured
    return xp.concat([xp.reshape(xp.sqrt(xp.sum_squares(x)), (1,)) for x in arrays], 0)


def changes(xp: Namespace, new: Sequence[Array], old: Sequence[Array | SparseRows]) -> Array:
    """How far each array has moved, ``||new - old||``, as one vector.

    Args:
        xp: array namespace.
        new: of any shapes, at least one.
        old: the same, or those rows of a table that may have moved.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> changes(xp, [np.array([3.0, 4.0])], [np.array([3.0, 2.0])])
        array([2.])
    """
    whole = not any(isinstance(before, SparseRows) for before in old)
    measured = xp.norms(new, old) if xp.norms is not None and whole else None
    if measured is not None:
        return measured
    return norms(xp, [_moved(xp, after, before) for after, before in zip(new, old, strict=True)])


def _moved(xp: Namespace, after: Array, before: Array | SparseRows) -> Array:
    """The difference; of rows only that of theirs, as the others are as they were."""
    if isinstance(before, SparseRows):
        return xp.take(after, before.ids) - before.values
    return after - before


def rounded(x: float) -> float:
    """A number with as many digits as float32 has; NaN and infinity as they are.

    Example:
        >>> rounded(0.30000001192092896)
        0.3
    """
    return float(DECIMAL % x)


def all_rounded(numbers: Iterable[float]) -> list[float]:
    """`rounded` of each number; many are done sooner without a call for each.

    Example:
        >>> all_rounded([0.30000001192092896, float("nan")])
        [0.3, nan]
    """
    return list(map(float, map(DECIMAL.__mod__, numbers)))


def coefficient(before: float, after: float) -> float:
    """What clipping multiplied a gradient by, from its norms before and after.

    Example:
        >>> coefficient(4.0, 1.0), coefficient(0.0, 0.0)
        (0.25, 1.0)
    """
    return after / before if 0 < before < math.inf else 1.0
