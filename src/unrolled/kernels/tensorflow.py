"""Run TensorFlow recurrences by the native kernels or its operations, with the analytic gradient.

In training steps on CPUs the native kernels compute it, on TensorFlow's own memory, where
they are built; else the same passes in TensorFlow's own operations.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from unrolled.backends.tensorflow import devices, in_value_and_grad, xp
from unrolled.functional.bptt import GATES
from unrolled.kernels.analytic_backward import Operations, Result
from unrolled.kernels.native_recurrence import KEPT, NativeRecurrence, num_threads, on_host

Tensors = tuple[Any, ...]

OPERATIONS = Operations(xp)

SMALLEST_WORK = 2**26
"""Multiplications of the recurrent weights under which to call back costs more than it saves."""

Passes = tuple[Any, Tensors, Callable[[Any, Tensors], Result]]
"""Outputs, last state, and the backward pass from their gradients."""


def recur(
    cell: str, X: Any, state: Tensors, weights: Sequence[Any], taps: Tensors = ()
) -> tuple[Any, Tensors]:
    """See `unrolled.kernels.recur`."""
    n, num_taps = len(state), len(taps)
    kernels = native_kernels((X, *state, *weights))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def recurrence(X: Any, *arrays: Any) -> Any:
        state, weights = arrays[num_taps : num_taps + n], arrays[num_taps + n :]
        if kernels:
            outputs, last, back = _native(kernels, cell, X, state, weights, num_taps > 0)
        else:
            outputs, last, kept = OPERATIONS.forward(cell, X, state, weights)
            back = partial(OPERATIONS.backward, cell, X, state, weights, outputs, kept)

        def backward(dY: Any, *d_last: Any) -> list[Any]:
            result = back(dY, d_last)
            found = (result.hidden, result.recurrent)[:num_taps]
            return [result.X, *found, *result.state, *result.weights]

        return (outputs, *last), backward

    # variables would be an error inside: their values go in
    arrays = [tf.convert_to_tensor(array) for array in (X, *taps, *state, *weights)]
    outputs, *last = recurrence(*arrays)
    return outputs, tuple(last)


def native_kernels(arrays: Sequence[Any]) -> NativeRecurrence | None:
    """The native kernels, if they can work on such arrays here.

    The graph calls back into this process. So they are for training steps only: a graph that
    computes nothing but values may be saved, and run elsewhere.
    """
    kind, *others = {tf.as_dtype(x.dtype).name for x in arrays if not xp.is_integer(x)}
    if others or not in_value_and_grad() or devices(1):
        return None
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    threads = threads or num_threads("TF_NUM_INTRAOP_THREADS")
    # several devices that are parts of the processor share its cores
    return on_host(kind, max(1, threads // len(tf.config.list_logical_devices("CPU"))))


def gains(X: Any, state: Tensors, weights: Sequence[Any]) -> bool:
    """Whether the native kernels compute it here, and in less time than TensorFlow itself."""
    T, B = X.shape[:2]
    work = (T or 0) * (B or 0) * sum(math.prod(W.shape) for W in weights[1::3])
    return work >= SMALLEST_WORK and native_kernels((X, *state, *weights)) is not None


def _native(
    kernels: NativeRecurrence,
    cell: str,
    X: Any,
    state: Tensors,
    weights: Sequence[Any],
    with_hidden: bool,
) -> Passes:
    (T, B), H, G = X.shape[:2], weights[1].shape[0], len(GATES[cell])
    with_inputs = not xp.is_integer(X)
    inputs = X if with_inputs else tf.cast(X, tf.int64), tuple(state), tuple(weights)

    def spec(*shape: int) -> tf.TensorSpec:
        return tf.TensorSpec(shape, weights[0].dtype)

    def forward(*inputs: Any) -> Any:
        return kernels.forward(cell, *inputs)

    last_specs = tuple(spec(B, H) for _ in state)
    kept_specs = tuple(spec(T, B, H if name == "cells" else 4 * H) for name in KEPT[cell])
    specs = spec(T, B, H), last_specs, kept_specs
    outputs, last, kept = _on_host(forward, inputs, specs)

    def backward(inputs: Any, outputs: Any, kept: Any, dY: Any, d_last: Any) -> Any:
        X, state, weights = inputs
        found = kernels.backward(
            cell, X, state, weights, outputs, kept, dY, d_last, with_hidden, with_inputs
        )
        taps = (found.hidden, found.recurrent) if with_hidden else ()
        return (found.X,) if with_inputs else (), found.state, found.weights, taps

    def back(dY: Any, d_last: Tensors) -> Result:
        dX_specs = (spec(*X.shape),) if with_inputs else ()
        tap_specs = (spec(T, B, H), spec(T, B, G * H)) if with_hidden else ()
        specs = dX_specs, last_specs, tuple(spec(*W.shape) for W in weights), tap_specs
        dX, *gradients, taps = _on_host(backward, (inputs, outputs, kept, dY, d_last), specs)
        return Result(*(dX or (None,)), *gradients, *(taps or (None, None)))

    return outputs, last, back


def _on_host(function: Callable[..., Any], arguments: Any, specs: Any) -> Any:
    """What a function of nested NumPy arrays gives, in the structure of its specs."""

    def flat(*arrays: Any) -> list[Any]:
        results = function(*tf.nest.pack_sequence_as(arguments, arrays))
        return [np.ascontiguousarray(array) for array in tf.nest.flatten(results)]

    leaves = tf.nest.flatten(specs)
    kinds = [spec.dtype for spec in leaves]
    tensors = tf.numpy_function(flat, tf.nest.flatten(arguments), kinds, stateful=False)
    for tensor, spec in zip(tensors, leaves, strict=True):
        tensor.set_shape(spec.shape)
    return tf.nest.pack_sequence_as(specs, tensors)
