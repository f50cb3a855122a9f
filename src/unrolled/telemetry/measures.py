"""Norms of parameters and of their changes, and how numbers are kept."""

import math
from collections.abc import Sequence

from unrolled.backends.namespace import Array, Namespace
from unrolled.backends.rows import Rows

DIGITS = 7
"""Significant digits of a recorded number: those that float32 has."""


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


def changes(xp: Namespace, new: Sequence[Array], old: Sequence[Array | Rows]) -> Array:
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
    whole = not any(isinstance(before, Rows) for before in old)
    measured = xp.norms(new, old) if xp.norms is not None and whole else None
    if measured is not None:
        return measured
    return norms(xp, [_moved(xp, after, before) for after, before in zip(new, old, strict=True)])


def _moved(xp: Namespace, after: Array, before: Array | Rows) -> Array:
    """The difference; of rows only that of theirs, as the others are as they were."""
    if isinstance(before, Rows):
        return xp.take(after, before.ids) - before.values
    return after - before


def rounded(x: float) -> float:
    """A number with as many digits as float32 has; NaN and infinity as they are.

    Example:
        >>> rounded(0.30000001192092896)
        0.3
    """
    return float(f"{x:.{DIGITS}g}")


def coefficient(before: float, after: float) -> float:
    """What clipping multiplied a gradient by, from its norms before and after.

    Example:
        >>> coefficient(4.0, 1.0), coefficient(0.0, 0.0)
        (0.25, 1.0)
    """
    return after / before if 0 < before < math.inf else 1.0
