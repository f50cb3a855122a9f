"""Return the norm of a JAX array whose squares may be too large or too small."""

from typing import Any

import jax.numpy as jnp


def norm(x: Any, axis: int | None = None) -> Any:
    """``||x||`` for all numbers that the array's type holds, in float32 at least.

    ``m ||x / m||`` with the largest ``m = max |x|``: the square of 1e25 is infinite in float32,
    that of 1e-25 is 0, and in float16 300 is enough.

    Args:
        x: of any shape, real or complex.
        axis: the one to sum along; None for all.

    Returns:
        The norm; infinity or NaN only where ``x`` has such, or where the norm itself is too large.

    Example:
        >>> f"{float(norm(jnp.array([3e25, 4e25]))):.4g}"
        '5e+25'
    """
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        # |z|^2 = Re^2 + Im^2: two norms, and theirs
        parts = jnp.stack([norm(x.real, axis), norm(x.imag, axis)])
        return norm(parts, None if axis is None else 0)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0.0)
    # beyond these XLA's 1 / unit may be one of the smallest numbers, which it takes for 0
    unit = jnp.clip(largest, 2.0**-100, 2.0**100)
    lengths = jnp.sqrt(jnp.sum((x / unit) ** 2, axis=axis))
    return lengths * unit.reshape(lengths.shape)
