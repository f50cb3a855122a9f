"""Initial parameter values, drawn by NumPy so that every framework starts alike."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Seed = int | Sequence[int] | None
"""What a generator of NumPy takes."""


def is_bias(name: str) -> bool:
    """Whether a parameter is a bias by its name.

    Example:
        >>> [is_bias(name) for name in ("lstm.bias_ih_l0", "layers.0.b_h", "b", "embed.weight")]
        [True, True, True, False]
    """
    leaf = name.rsplit(".", 1)[-1]
    return "bias" in leaf or leaf == "b" or leaf.startswith("b_")


def normal_weights(
    shapes: Mapping[str, tuple[int, ...]], sigma: float, seed: int | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Weights from ``N(0, sigma^2)``, biases zero.

    Args:
        shapes: shape of each parameter by name, drawn in this order; a name whose last
            part begins with ``b`` is a bias.
        sigma: standard deviation.
        seed: the same seed gives the same values; None draws anew each time.

    Returns:
        float32 arrays by name.

    Example:
        >>> values = normal_weights({"w": (2, 1), "b": (1,)}, sigma=0.01, seed=0)
        >>> values["w"].shape, values["b"]
        ((2, 1), array([0.], dtype=float32))
    """
    rng = np.random.default_rng(seed)
    return {
        name: np.zeros(shape, dtype=np.float32)
        if is_bias(name)
        else rng.normal(0.0, sigma, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def xavier_uniform(
    shapes: Mapping[str, tuple[int, int]], seed: Seed = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Matrices from ``U(-a, a)`` with ``a = sqrt(6 / (rows + columns))``.

    The spread that keeps the size of signals about equal on the way forward and back through
    a layer of that many inputs and outputs.

    Args:
        shapes: shape of each matrix by name, drawn in this order.
        seed: the same seed gives the same values; None draws anew each time.

    Returns:
        float32 arrays by name.

    Example:
        >>> W = xavier_uniform({"W": (10, 32)}, seed=0)["W"]
        >>> bool(0.37 < abs(W).max() < math.sqrt(6 / 42))  # the bound is 0.378
        True

    Reference: X. Glorot, Y. Bengio, Understanding the difficulty of training deep
    feedforward neural networks, 2010.
    """
    rng = np.random.default_rng(seed)
    bounds = {name: math.sqrt(6 / sum(shape)) for name, shape in shapes.items()}
    return {
        name: rng.uniform(-bounds[name], bounds[name], shape).astype(np.float32)
        for name, shape in shapes.items()
    }
