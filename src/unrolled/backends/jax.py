"""Array operations, gradients and optimizer steps in JAX, for Flax modules and Optax.

Arrays cannot change here and a Linen module holds no values. So where other backends take
a model, this one takes a module bound to its parameters, or the nested dict of them alone.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec

from unrolled.backends.namespace import Array, Namespace
from unrolled.backends.protocol import StateFunctions
from unrolled.backends.state import jax as jax_state
from unrolled.backends.tied import first_places, without_ties
from unrolled.errors import SettingError

name = "jax"

state: StateFunctions = jax_state


def _scan(
    step: Callable[[Any, Any], Any], state: Any, inputs: Any, reverse: bool = False
) -> tuple[Any, Any]:
    # five steps to a turn: about 10% faster on a CPU (RNN, H = 512), little more to compile
    state, outputs = jax.lax.scan(step, state, inputs, reverse=reverse, unroll=5)
    return outputs, state


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


xp = Namespace(
    exp=jnp.exp,
    log=jnp.log,
    sqrt=jnp.sqrt,
    tanh=jnp.tanh,
    sigmoid=jax.nn.sigmoid,
    abs=jnp.abs,
    sign=jnp.sign,
    maximum=jnp.maximum,
    sum=jnp.sum,
    mean=jnp.mean,
    amax=jnp.max,
    sum_squares=lambda x: jnp.sum(x * x),
    reshape=jnp.reshape,
    transpose=lambda x: jnp.swapaxes(x, 0, 1),
    gram=lambda x: x @ jnp.swapaxes(x, 1, 2),
    concat=jnp.concatenate,
    stack=jnp.stack,
    unstack=iter,
    flip=lambda x: x[::-1],
    zeros_like=jnp.zeros_like,
    take=lambda W, ids: W[ids],
    add_rows=lambda rows, ids, V: jnp.zeros((V, rows.shape[1]), rows.dtype).at[ids].add(rows),
    pick=lambda x, ids: jnp.take_along_axis(x, ids[:, None], axis=1)[:, 0],
    argmax=lambda x: jnp.argmax(x, -1),
    count_above=lambda x, least: jnp.sum(x > least, dtype=jnp.float32),
    one_hot=lambda ids, depth: jax.nn.one_hot(ids, depth, dtype=jnp.float32),
    is_integer=lambda x: jnp.issubdtype(x.dtype, jnp.integer),
    stop_gradient=jax.lax.stop_gradient,
    scan=_scan,
    row_norms=partial(norm, axis=-1),
)


def asarray(values: Any, device: Any = None) -> jax.Array:
    if jax_state.is_of_several_processes(device):
        return jax_state.on_all_devices(values, device)
    return jnp.asarray(values, device=device)


def to_numpy(array: jax.Array) -> npt.NDArray[Any]:
    if not (getattr(array, "is_fully_addressable", True) or array.is_fully_replicated):
        # other processes, which come here too, have parts of it
        array = jax.device_put(array, NamedSharding(array.sharding.mesh, PartitionSpec()))
    return np.array(array)  # a copy: JAX's own memory is closed to writing


# Parameters are ordered dicts: of a plain dict, jax.jit sorts the names


def initialize(values: Mapping[str, npt.NDArray[Any]], device: Any = None) -> dict[str, Array]:
    # jnp.array copies; jnp.asarray may share NumPy's memory
    return OrderedDict((name, jnp.array(value, device=device)) for name, value in values.items())


def nested(parameters: Mapping[str, Array]) -> dict[str, Any]:
    """Flax's nested dicts for dotted names."""
    tree: dict[str, Any] = unflatten_dict(parameters, sep=".")
    return tree


def parameters(model: Any) -> dict[str, Array]:
    return OrderedDict(without_ties(named_arrays(model)))


def named_arrays(model: Any) -> dict[str, Array]:
    if isinstance(model, nn.Module):
        if is_lazy(model):
            raise SettingError(
                f"this {type(model).__name__} has no parameters: in JAX a module only describes "
                "a model. Take trainer.bound_model after training, or model.bind(variables)"
            )
        model = model.variables.get("params", {})
    return dict(flatten_dict(model, sep="."))


def is_lazy(model: Any) -> bool:
    return isinstance(model, nn.Module) and model.scope is None


def gradient(array: jax.Array) -> None:
    return None


def tie(model: Any, place: str, to: str) -> None:
    put(model, place, named_arrays(model)[to])


def put(params: Any, place: str, array: jax.Array) -> None:
    """Another array at one place of nested dicts."""
    if isinstance(params, nn.Module):
        raise SettingError(
            f"a {type(params).__name__} is a Linen module, which cannot change: work on its "
            "nested dict, as trainer.state.params. To tie, use one submodule at two places"
        )
    *path, leaf = place.split(".")
    for part in path:
        params = params[part]
    params[leaf] = array


def bind(model: Any, parameters: Mapping[str, Array], **options: Any) -> Any:
    """The Linen module bound to these parameters, whether it was bound before or not.

    Args:
        model: the module.
        parameters: by dotted name; those that a bound module has tied, under one name.
        options: ``rngs`` and ``mutable`` of Linen's own ``bind``.
    """
    if not is_lazy(model):
        parameters = _at_every_place(model, parameters)
        model = model.unbind()[0]
    return model.bind({"params": nested(parameters)}, **options)


def _at_every_place(model: Any, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
    """Those that are tied in a bound module under all their names, in its order."""
    first = first_places(named_arrays(model))
    if all(place == name for place, name in first.items()):
        return parameters
    return OrderedDict(
        (place, parameters[place if place in parameters else name]) for place, name in first.items()
    )


def assign(parameters: Mapping[str, Array], values: Mapping[str, Any]) -> dict[str, Array]:
    return OrderedDict(
        (name, asarray(jnp.array(values[name], dtype=parameter.dtype), parameter.sharding))
        for name, parameter in parameters.items()
    )


def snapshot(
    parameters: Mapping[str, Array],
    reuse: Mapping[str, Array] | None = None,
    gradients: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    return OrderedDict(parameters)  # nothing can change the arrays


def value_and_grad(
    function: Callable[..., tuple[Array, Any]],
) -> Callable[..., tuple[tuple[Array, Any], dict[str, Array]]]:
    differentiate: Callable[..., Any] = jax.value_and_grad(function, has_aux=True)
    return differentiate


class Optimizer:
    """An Optax transformation together with its state, which `apply_gradients` moves on.

    Args:
        transformation: as from ``optax.sgd(lr)``.
        parameters: by dotted name; the transformation sees them nested, as Flax has them.
    """

    def __init__(self, transformation: Any, parameters: Mapping[str, Array]) -> None:
        self.transformation = transformation
        state = transformation.init(nested(parameters))
        self.state = state() if isinstance(state, type) else state  # a class: one that is empty
        self.update = jax.jit(self._update)

    def _update(self, parameters: Any, gradients: Any, state: Any) -> tuple[dict[str, Array], Any]:
        gradients = {n: gradients.get(n, jnp.zeros_like(p)) for n, p in parameters.items()}
        params = nested(parameters)
        changes, state = self.transformation.update(nested(gradients), state, params)
        changed = flatten_dict(optax.apply_updates(params, changes), sep=".")
        return OrderedDict((name, changed[name]) for name in parameters), state


def apply_gradients(
    optimizer: Optimizer, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
) -> dict[str, Array]:
    changed: dict[str, Array]
    changed, optimizer.state = optimizer.update(
        OrderedDict(parameters), dict(gradients), optimizer.state
    )
    return changed


def stop_gradient(arrays: Any) -> Any:
    return jax.tree.map(jax.lax.stop_gradient, arrays)


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()


def full_precision() -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = jax.default_matmul_precision("highest")
    return context


def set_training(model: Any, training: bool) -> None:
    """Nothing: a Linen module is in training where it is given random numbers."""


def evaluating(model: Any) -> AbstractContextManager[None]:
    return nullcontext()


def compile(function: Callable[..., Any]) -> Callable[..., Any]:
    model = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    if not isinstance(model, nn.Module) or model.scope is None:
        compiled: Callable[..., Any] = jax.jit(function)
        return compiled
    # the parameters go in as arguments, so that new ones need no new compilation
    method = "__call__" if model is function else function.__name__
    return partial(_call, model.unbind()[0], method, OrderedDict(named_arrays(model)))


def _bind_and_call(module: Any, method: str, parameters: Any, *arguments: Any) -> Any:
    return getattr(bind(module, parameters), method)(*arguments)


_call = jax.jit(_bind_and_call, static_argnums=(0, 1))


def dry_run(function: Callable[..., Any], *arguments: Any) -> None:
    jax.eval_shape(function, *arguments)


def seed(seed: int) -> None:
    jax_state.seeds.seed(seed)


def fresh_seed() -> int:
    return jax_state.seeds.getrandbits(31)


def devices(num_gpus: int) -> list[Any]:
    try:
        return list(jax.devices("gpu")[:num_gpus])
    except RuntimeError:  # there is none
        return []


def cpu() -> Any:
    return jax.devices("cpu")[0]


def to_device(target: Any, device: Any) -> Any:
    """Arrays in any nesting, or a bound module's parameters, on the device."""
    if not isinstance(target, nn.Module):
        return jax.device_put(target, device)
    if target.scope is None:
        return target
    return bind(target, jax.device_put(parameters(target), device))


def synchronize() -> None:
    jax.block_until_ready(jax.live_arrays())


def describe() -> dict[str, Any]:
    others = [device.device_kind for device in jax.local_devices() if device.platform != "cpu"]
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "version": jax.__version__,
        "devices": ["cpu", *others],
        # XLA takes every core that the process may use
        "threads": len(affinity(0)) if affinity else os.cpu_count(),
        "numpy": np.__version__,
    }
