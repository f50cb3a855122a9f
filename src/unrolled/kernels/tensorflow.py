"""The fast recurrence for TensorFlow: a function with a gradient of its own."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from unrolled.backends.tensorflow import xp
from unrolled.kernels import explicit

Tensors = tuple[Any, ...]


def recur(
    cell: str, X: Any, state: Tensors, weights: Sequence[Any], taps: Tensors = ()
) -> tuple[Any, Tensors]:
    """See `unrolled.kernels.recur`."""
    n, num_taps = len(state), len(taps)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def recurrence(X: Any, *arrays: Any) -> Any:
        state, weights = arrays[num_taps : num_taps + n], arrays[num_taps + n :]
        last, tape = explicit.forward(xp, cell, X, state, weights)

        def backward(dY: Any, *d_last: Any) -> list[Any]:
            result = explicit.backward(xp, cell, X, weights, tape, dY, d_last)
            found = (result.hidden, result.recurrent)[:num_taps]
            return [result.X, *found, *result.state, *result.weights]

        return (tape.new[0], *last), backward

    # variables would be an error inside: their values go in
    arrays = [tf.convert_to_tensor(array) for array in (X, *taps, *state, *weights)]
    outputs, *last = recurrence(*arrays)
    return outputs, tuple(last)
