"""The fast recurrence for JAX: a function with a derivative of its own."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from unrolled.backends.jax import xp
from unrolled.functional import bptt
from unrolled.kernels import explicit

Arrays = tuple[jax.Array, ...]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(cell: str, X: jax.Array, state: Arrays, weights: Arrays, taps: Arrays) -> Any:
    return _forward(cell, X, state, weights, taps)[0]


def _forward(cell: str, X: jax.Array, state: Arrays, weights: Arrays, taps: Arrays) -> Any:
    last, tape = explicit.forward(xp, cell, X, state, weights)
    parts = tape.old, tape.new, tape.kept
    return (tape.new[0], last), (X, weights, parts, len(taps))


def _backward(cell: str, saved: Any, d_results: Any) -> Any:
    X, weights, parts, num_taps = saved
    dY, d_last = d_results
    result = explicit.backward(xp, cell, X, weights, bptt.Tape(*parts), dY, d_last)
    # what JAX takes for the gradient of integers
    dX = np.zeros(X.shape, jax.dtypes.float0) if result.X is None else result.X
    taps = (result.hidden, result.recurrent)[:num_taps]
    return dX, result.state, result.weights, taps


_recurrence.defvjp(_forward, _backward)


def recur(
    cell: str, X: jax.Array, state: Arrays, weights: Sequence[jax.Array], taps: Arrays = ()
) -> tuple[jax.Array, Arrays]:
    """See `unrolled.kernels.recur`."""
    results: tuple[jax.Array, Arrays]
    results = _recurrence(cell, X, tuple(state), tuple(weights), tuple(taps))
    return results
