"""Clip gradients by one of four methods: the global norm, per tensor, by value, adaptively."""

from collections.abc import Callable

from unrolled.backends.namespace import Array, Namespace
from unrolled.errors import SettingError, did_you_mean
from unrolled.functional.initial import is_bias
from unrolled.functional.updates import Arrays, clip_coefficient, global_norm, scale_together


def clip_per_tensor(xp: Namespace, gradients: Arrays, theta: float) -> dict[str, Array]:
    """Scale each gradient by itself so that its L2 norm is at most ``theta``.

    The direction of every gradient stays; that of all together does not.

    Args:
        xp: array namespace.
        gradients: by parameter name, of any shapes.
        theta: the largest norm of one gradient, above 0.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> gradients = {"w": np.array([3.0, 4.0]), "b": np.array([0.5])}
        >>> clip_per_tensor(xp, gradients, 1.0)
        {'w': array([0.6, 0.8]), 'b': array([0.5])}
    """
    return {
        name: g * clip_coefficient(xp, xp.sqrt(xp.sum_squares(g)), theta)
        for name, g in gradients.items()
    }


def clip_by_value(xp: Namespace, gradients: Arrays, theta: float) -> dict[str, Array]:
    """Limit every single value to ``[-theta, theta]``; the direction changes.

    Args:
        xp: array namespace.
        gradients: by parameter name, of any shapes.
        theta: the largest absolute value, above 0.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> clip_by_value(xp, {"w": np.array([0.5, -4.0])}, 1.0)
        {'w': array([ 0.5, -1. ])}
    """

    def clip(g: Array) -> Array:
        least = xp.zeros_like(g) - theta
        return xp.maximum(least, -xp.maximum(least, -g))

    return {name: clip(g) for name, g in gradients.items()}


SMALLEST_UNIT = 1e-3
"""The least norm that a unit's weights count with, so that those that start at 0 can move."""


def unit_axis(name: str) -> int:
    """Which axis of a parameter with two or more axes counts its units.

    A unit's weights are those that lead into it. In the models from scratch ``W (D, H)``
    has the ``H`` units in its columns, and so have the layers of Keras and Flax: the last
    axis. The layers of PyTorch and Gluon keep ``weight (H, D)``, the units in the rows; they
    are known by their name.

    Args:
        name: of the parameter, as the framework calls it.

    Example:
        >>> unit_axis("layers.0.W_xh"), unit_axis("net.kernel"), unit_axis("rnn.weight_hh_l0")
        (-1, -1, 0)
    """
    return 0 if "weight" in name.rpartition(".")[-1] else -1


def clip_adaptively(
    xp: Namespace, gradients: Arrays, parameters: Arrays, theta: float
) -> dict[str, Array]:
    """Scale the gradient of each unit so that it is at most ``theta`` times its weights.

    ``G_i <- G_i min(1, theta max(||W_i||, 0.001) / ||G_i||)`` for each unit ``i``: for one
    column of a weight ``W (D, H)`` of the models from scratch, see `unit_axis`. A bias ``(H,)`` or
    ``(1, H)``, or any other vector, is one unit as a whole.

    Args:
        xp: array namespace.
        gradients: by parameter name, of any shapes.
        parameters: the values, by name.
        theta: the largest quotient of the norms, above 0; 0.01 is usual.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> W, G = np.array([[3.0, 0.0], [4.0, 1.0]]), np.array([[3.0, 0.0], [4.0, 0.1]])
        >>> clip_adaptively(xp, {"W": G}, {"W": W}, 0.2)["W"]  # columns: 5 to 1, 0.1 stays
        array([[0.6, 0. ],
               [0.8, 0.1]])

    Reference: A. Brock et al., High-performance large-scale image recognition without
    normalization, 2021, https://arxiv.org/abs/2102.06171, section 4.1. There the last
    linear layer is left alone; here every parameter is clipped.
    """

    def clip(name: str, g: Array) -> Array:
        whole = len(g.shape) < 2 or is_bias(name)
        unit = None if whole else unit_axis(name) % len(g.shape)
        axes = tuple(axis for axis in range(len(g.shape)) if axis != unit) or None
        gradient = xp.sqrt(xp.sum(g * g, axis=axes, keepdims=True))
        W = parameters[name]
        weights = xp.sqrt(xp.sum(W * W, axis=axes, keepdims=True))
        weights = xp.maximum(weights, xp.zeros_like(weights) + SMALLEST_UNIT)
        return g * clip_coefficient(xp, gradient / weights, theta)

    return {name: clip(name, g) for name, g in gradients.items()}


ONE_BY_ONE: dict[str, Callable[[Namespace, Arrays, Arrays, float], dict[str, Array]]] = {
    "per_tensor": lambda xp, g, p, theta: clip_per_tensor(xp, g, theta),
    "value": lambda xp, g, p, theta: clip_by_value(xp, g, theta),
    "adaptive": clip_adaptively,
}
"""The methods that change the direction, called with gradients, parameters and ``theta``."""

CLIP_METHODS = ("global_norm", *ONE_BY_ONE)

SCALING = ("global_norm", "per_tensor")
"""The methods that multiply each gradient by one number."""


def check_clip_method(method: str) -> str:
    """The name itself if it is that of a method.

    Raises:
        SettingError: it is not; the message names the nearest.

    Example:
        >>> check_clip_method("values")
        Traceback (most recent call last):
        ...
        unrolled.errors.SettingError: unknown clipping method 'values': did you mean 'value'?
        There are: global_norm, per_tensor, value, adaptive
    """
    if method not in CLIP_METHODS:
        raise SettingError(
            f"unknown clipping method '{method}': {did_you_mean(method, CLIP_METHODS)}"
        )
    return method


def clip(
    xp: Namespace, method: str, gradients: Arrays, parameters: Arrays, theta: float
) -> tuple[Arrays, Array, Array]:
    """Clip gradients by one of the methods.

    Args:
        xp: array namespace.
        method: one of ``CLIP_METHODS``.
        gradients: by parameter name, of any shapes.
        parameters: the values, by name.
        theta: what the method clips at, above 0; infinity never clips.

    Returns:
        The gradients, their global norm before clipping, and the same after it.

    Raises:
        SettingError: no such method.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> gradients = {"w": np.array([3.0, 4.0]), "b": np.array([12.0])}
        >>> _, before, after = clip(xp, "per_tensor", gradients, gradients, 1.0)
        >>> float(before), round(float(after), 5)
        (13.0, 1.41421)
    """
    if method == "global_norm":
        return scale_together(xp, gradients, theta)
    clip_each = ONE_BY_ONE[check_clip_method(method)]
    before = global_norm(xp, gradients.values())
    clipped = clip_each(xp, gradients, parameters, theta)
    return clipped, before, global_norm(xp, clipped.values())
