"""Run JAX recurrences by the native kernels or JAX's operations, with the analytic gradient.

On CPUs the native kernels compute it, as operations of XLA, where they are built; else the
same passes in JAX's own operations.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from unrolled import native
from unrolled.backends.jax import xp
from unrolled.errors import SettingError
from unrolled.kernels.analytic_backward import Operations
from unrolled.kernels.native_recurrence import NativeRecurrence, num_threads
from unrolled.native.loading import loaded
from unrolled.native.recording import RECORDABLE, record

Arrays = tuple[jax.Array, ...]
Engine = NativeRecurrence | Operations


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence(
    engine: Engine, cell: str, X: Any, state: Arrays, weights: Arrays, taps: Arrays
) -> Any:
    return engine.forward(cell, _readable(engine, X), state, weights, keep=False)[:2]


def _forward(
    engine: Engine, cell: str, X: Any, state: Arrays, weights: Arrays, taps: Arrays
) -> Any:
    outputs, last, kept = engine.forward(cell, _readable(engine, X), state, weights)
    return (outputs, last), (X, state, weights, outputs, kept, len(taps))


def _backward(engine: Engine, cell: str, saved: Any, d_results: Any) -> Any:
    X, state, weights, outputs, kept, num_taps = saved
    dY, d_last = d_results
    inputs = _readable(engine, X), state, weights
    result = engine.backward(cell, *inputs, outputs, kept, dY, d_last, with_hidden=num_taps > 0)
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
    engine = native_kernels((X, *state, *weights)) or Operations(xp)
    results = _recurrence(engine, cell, X, tuple(state), tuple(weights), tuple(taps))
    return results


def native_kernels(arrays: Sequence[jax.Array]) -> NativeRecurrence | None:
    """The native kernels as operations of XLA, if they can work on such arrays here.

    That they are on the CPU cannot be seen where a program is compiled: it is the CPU
    where JAX knows of nothing better.
    """
    kinds = {str(array.dtype) for array in arrays if not xp.is_integer(array)}
    if kinds not in ({"float32"}, {"float64"}) or jax.default_backend() != "cpu":
        return None
    if not (native.available()[0] and _are_operations()):
        return None
    # several devices of this process share its cores
    threads = num_threads("PJRT_NPROC", "NPROC") // jax.local_device_count()
    return NativeRecurrence(xp, _operation, max(1, threads))


def gains(X: jax.Array, state: Arrays, weights: Sequence[jax.Array]) -> bool:
    """Whether the native kernels compute it here, which takes less time than JAX itself."""
    return native_kernels((X, *state, *weights)) is not None


@cache
def _are_operations() -> bool:
    """Make the library's functions known to XLA, once; whether it takes them."""
    try:
        for name in RECORDABLE:
            function = ctypes.cast(getattr(loaded(), f"{name}_in_xla"), ctypes.c_void_p)
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function.value), "cpu")
    except (AttributeError, RuntimeError):  # an older JAX, or another version of XLA's interface
        return False
    return True


def _operation(
    function: str,
    like: jax.Array,
    sizes: Mapping[str, int],
    reads: Mapping[str, Any],
    writes: Sequence[str],
    **options: Any,
) -> dict[str, Any]:
    """See `unrolled.kernels.native_recurrence.Call`: the call is made when the program runs."""
    results = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, like.dtype),
        native.shapes(function, sizes, writes),
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
    memory = jax.tree.map(_stand_in, (dict(reads), results))
    kind, both = np.empty(0, like.dtype), memory[0] | memory[1]
    recorded = record(
        lambda: native.call(function, kind, sizes, both, **options), jax.tree.leaves(memory)
    )
    leaves, structure = jax.tree.flatten(results)
    scratch = jax.ShapeDtypeStruct((recorded.workspace,), np.uint8)
    call = jax.ffi.ffi_call(recorded.function, [*leaves, scratch], vmap_method="sequential")
    operation = jax.custom_jvp(partial(call, call=recorded.call, places=recorded.places))
    operation.defjvp(_refuse)
    *written, _ = operation(*jax.tree.leaves(dict(reads)))
    arrays: dict[str, Any] = jax.tree.unflatten(structure, written)
    return arrays


def _refuse(*_: Any) -> Any:
    raise SettingError(
        "the native kernels have first derivatives only, and here a derivative is "
        "differentiated: take engine='reference'"
    )


def _readable(engine: Engine, X: jax.Array) -> jax.Array:
    """Ids as the native kernels read them: JAX has no int64 by default, so in two halves."""
    if isinstance(engine, Operations) or not xp.is_integer(X) or X.dtype == np.int64:
        return X
    low = X.astype(np.int32)
    return jnp.stack([low, low >> 31], -1)  # (T, B, 2)


def _stand_in(array: Any) -> npt.NDArray[Any]:
    memory = np.empty(array.shape, array.dtype)
    return memory.view(np.int64)[..., 0] if memory.dtype == np.int32 else memory
