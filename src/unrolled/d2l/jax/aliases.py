"""*Dive into Deep Learning*'s names for JAX's functions: ``d2l.matmul``, ``d2l.ones``."""

from typing import Any

import jax
import jax.numpy as jnp

from unrolled.backends import jax as backend

arange, ones, zeros, tensor = jnp.arange, jnp.ones, jnp.zeros, jnp.array
exp, sin, tanh, sigmoid = jnp.exp, jnp.sin, jnp.tanh, jax.nn.sigmoid
matmul, concat, stack = jnp.matmul, jnp.concatenate, jnp.stack
reduce_mean, argmax, size = jnp.mean, jnp.argmax, jnp.size
transpose, swapaxes = jnp.transpose, jnp.swapaxes
float32, int32, int64 = jnp.float32, jnp.int32, jnp.int64
numpy, to = backend.to_numpy, backend.to_device
get_seed = backend.fresh_seed


def get_key() -> Any:
    """A fresh key for JAX's random draws."""
    return jax.random.PRNGKey(get_seed())


def reshape(x: Any, *shape: Any) -> Any:
    """``x.reshape(*shape)``."""
    return x.reshape(*shape)
