"""Initial values, drawn by NumPy so that every framework starts from the same place."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


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
        if name.rpartition(".")[2].startswith("b")
        else rng.normal(0.0, sigma, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
