"""Gradient clipping by the global norm, and the SGD update; other ways to clip: `clipping.py`."""

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add

from unrolled.backends.namespace import Array, Namespace
from unrolled.errors import ParameterError

Arrays = Mapping[str, Array]


def global_norm(xp: Namespace, arrays: Iterable[Array]) -> Array:
    """L2 norm of all values of all arrays together: ``sqrt(sum_i ||g_i||^2)``.

    Args:
        xp: array namespace.
        arrays: one or more, of any shapes.

    Returns:
        A scalar.

    Raises:
        ParameterError: there are no arrays.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> float(global_norm(xp, [np.array([3.0]), np.array([[4.0]])]))
        5.0
    """
    squares = list(map(xp.sum_squares, arrays))
    if not squares:
        raise ParameterError("there are no gradients to take the norm of: call backward() first")
    # reduce, not sum(): its start, the int 0, makes float64 of float32 in NumPy 1
    return xp.sqrt(reduce(add, squares))


def clip_coefficient(xp: Namespace, norm: Array, theta: float) -> Array:
    """What clipping at ``theta`` multiplies each gradient by: ``min(1, theta / norm)``.

    Libraries differ here (some add 1e-6 to the norm, which clips a norm of exactly
    ``theta`` too). This is the exact one, written so that a zero norm divides nothing.

    Args:
        xp: array namespace.
        norm: the global norm before clipping, a scalar.
        theta: the largest norm allowed, above 0; infinity never clips.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> [float(clip_coefficient(xp, np.array(n), 1.0)) for n in (0.0, 0.5, 1.0, 4.0)]
        [1.0, 1.0, 1.0, 0.25]

    Reference: R. Pascanu et al., On the difficulty of training recurrent neural networks,
    2013, https://arxiv.org/abs/1211.5063, algorithm 1.
    """
    return 1 / xp.maximum(norm / theta, xp.zeros_like(norm) + 1)


def clip_by_global_norm(
    xp: Namespace, gradients: Mapping[str, Array], theta: float
) -> tuple[dict[str, Array], Array]:
    """Scale all gradients together so that their global norm is at most ``theta``.

    The direction stays; only the length changes.

    Args:
        xp: array namespace.
        gradients: by parameter name, of any shapes.
        theta: the largest norm allowed, above 0; infinity never clips.

    Returns:
        The gradients, and their global norm **before** clipping.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> clipped, norm = clip_by_global_norm(xp, {"w": np.array([3.0, 4.0])}, 1.0)
        >>> clipped["w"], float(norm)
        (array([0.6, 0.8]), 5.0)
    """
    clipped, norm, _ = scale_together(xp, gradients, theta)
    return clipped, norm


def scale_together(
    xp: Namespace, gradients: Arrays, theta: float
) -> tuple[dict[str, Array], Array, Array]:
    """Return the clipped gradients, their global norm before clipping, and after it."""
    arrays = list(gradients.values())
    done = xp.clip_together(arrays, theta) if xp.clip_together is not None else None
    if done is not None:
        clipped, norm, after = done
        return dict(zip(gradients, clipped, strict=True)), norm, after
    norm = global_norm(xp, arrays)
    scale = clip_coefficient(xp, norm, theta)
    return {name: g * scale for name, g in gradients.items()}, norm, norm * scale


def sgd(parameter: Array, gradient: Array, lr: float) -> Array:
    """One step of gradient descent: ``parameter - lr * gradient``.

    Args:
        parameter: its value, of any shape.
        gradient: of the same shape.
        lr: learning rate.

    Example:
        >>> sgd(1.0, 0.5, lr=0.1)
        0.95
    """
    return parameter - lr * gradient
