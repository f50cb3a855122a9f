"""The affine map ``X W + b``."""

from unrolled.backends.namespace import Array, Namespace


def affine(xp: Namespace, X: Array, W: Array, b: Array) -> Array:
    """Rows times a matrix plus a bias: ``X W + b``.

    Args:
        xp: array namespace.
        X: inputs, ``(..., D)``; or integer ids of any shape, which stand for
            one-hot rows: ``one_hot(i) W`` is row ``i`` of ``W``, so the rows are
            looked up and no one-hot array is built.
        W: weights, ``(D, H)``.
        b: bias, ``(H,)``.

    Returns:
        ``(..., H)``.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> W, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0])
        >>> affine(xp, np.array([[1.0, 1.0]]), W, b)
        array([[14., 26.]])
        >>> affine(xp, np.array([1]), W, b)  # the same as the one-hot row [0, 1]
        array([[13., 24.]])
    """
    return (xp.take(W, X) if xp.is_integer(X) else X @ W) + b
