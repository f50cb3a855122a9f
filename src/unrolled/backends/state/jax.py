"""State of Optax's optimizers, Flax variables and JAX's seeds, read and restored exactly."""

import random
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import tree_util

from unrolled.backends.namespace import Array
from unrolled.backends.state.encoding import (
    check_arrays,
    check_class,
    class_name,
    decode,
    state_of,
)
from unrolled.backends.state.generators import load_random_state, random_state
from unrolled.errors import ParameterError, SettingError

seeds = random.Random()
"""JAX has no generator of its own: the keys of models and trainers are made of draws from this."""

NO_STATE = ("params", "plots")
"""Collections of a Linen module's variables that are none: parameters, and what one step tells."""


def buffers(model: Any) -> dict[str, Array]:
    if not isinstance(model, nn.Module) or model.scope is None:
        return {}
    kept = {name: values for name, values in model.variables.items() if name not in NO_STATE}
    return dict(flatten_dict(kept, sep="."))


def load_buffers(model: Any, values: Mapping[str, npt.NDArray[Any]]) -> None:
    found = buffers(model)
    check_arrays({name: np.asarray(array) for name, array in found.items()}, values)
    arrays = {name: jnp.array(value) for name, value in values.items()}
    for collection, inside in unflatten_dict(arrays, sep=".").items():
        if not model.scope.is_mutable_collection(collection):
            raise SettingError(
                f"the {collection} of this {type(model).__name__} cannot change: bind it with "
                f"mutable=['{collection}']"
            )
        for name, value in inside.items():
            model.scope.put_variable(collection, name, value)


def optimizer_state(optimizer: Any, parameters: Mapping[str, Array]) -> Any:
    if not hasattr(optimizer, "transformation"):
        return state_of(optimizer, _encoded)
    leaves = {name: _encoded(leaf) for name, leaf in _named_leaves(optimizer.state)}
    unknown = [name for name, leaf in leaves.items() if leaf is None]
    if unknown:
        raise SettingError(
            f"the state of the Optax transformation holds {unknown[0]}, which is no array: a "
            "checkpoint keeps arrays and numbers"
        )
    return {"class": class_name(optimizer), "state": leaves}


def load_optimizer_state(optimizer: Any, tree: Any, parameters: Mapping[str, Array]) -> None:
    check_class(optimizer, tree)
    if not hasattr(optimizer, "transformation"):
        optimizer.load_state_dict(decode(tree["state"], _decoded))
        return
    fresh = dict(_named_leaves(optimizer.state))
    expected = _values(fresh)
    check_arrays(expected, _values(tree["state"], expected))
    loaded = [_like(leaf, _decoded(tree["state"][name])) for name, leaf in fresh.items()]
    structure = tree_util.tree_structure(optimizer.state)
    optimizer.state = tree_util.tree_unflatten(structure, loaded)


def _named_leaves(state: Any) -> list[tuple[str, Any]]:
    paths, _ = tree_util.tree_flatten_with_path(state)
    return [(tree_util.keystr(path), leaf) for path, leaf in paths]


def _values(
    leaves: Mapping[str, Any], expected: Mapping[str, npt.NDArray[Any]] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return leaves, or their trees, as arrays to compare: of a key its bits.

    A number, which a reader may have put in the place of an array, has no type to compare.
    """
    trees = {n: leaf if isinstance(leaf, dict) else _encoded(leaf) for n, leaf in leaves.items()}
    values = {name: np.asarray(tree["value"]) for name, tree in trees.items()}
    for name in (expected or {}).keys() & values.keys():
        if expected and trees[name]["kind"] == "number":
            values[name] = values[name].astype(expected[name].dtype)
    return values


def _like(fresh: Any, loaded: Any) -> Any:
    """A leaf on the device of the one that it replaces."""
    if not (isinstance(fresh, jax.Array) and isinstance(loaded, jax.Array)):
        return loaded
    if jax.dtypes.issubdtype(fresh.dtype, jax.dtypes.prng_key) and fresh.dtype != loaded.dtype:
        raise ParameterError(f"the state has a key of {loaded.dtype}; {fresh.dtype} is expected")
    if is_of_several_processes(fresh.sharding):
        return on_all_devices(loaded, fresh.sharding)
    return jax.device_put(loaded, fresh.sharding)


def is_of_several_processes(device: Any) -> bool:
    """Return whether a sharding has devices of other processes, too."""
    return isinstance(device, jax.sharding.Sharding) and not device.is_fully_addressable


def on_all_devices(values: Any, sharding: Any) -> jax.Array:
    """An array that every process has, on the devices of all: each makes those of its own."""
    x = np.array(values)
    return jax.make_array_from_callback(x.shape, sharding, x.__getitem__)


def _encoded(leaf: Any) -> Any:
    """The tree of a leaf; None of what is neither array nor number."""
    if isinstance(leaf, (bool, int, float)):
        return {"kind": "number", "value": leaf}
    if isinstance(leaf, (np.ndarray, np.generic)):
        return {"kind": "numpy", "value": np.array(leaf)}
    if not isinstance(leaf, jax.Array):
        return None
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        kind = str(jax.random.key_impl(leaf))
        return {"kind": f"key {kind}", "value": np.array(jax.random.key_data(leaf))}
    return {"kind": "weak" if leaf.weak_type else "array", "value": np.array(leaf)}


def _decoded(tree: Any) -> Any:
    if not isinstance(tree, dict) or "kind" not in tree:
        return None
    kind, value = tree["kind"], tree["value"]
    if kind == "number":
        return value
    if kind == "numpy":
        return np.array(value)
    if kind.startswith("key "):
        return jax.random.wrap_key_data(jnp.array(value), impl=kind.removeprefix("key "))
    array = jnp.array(value)
    # one of a Python number gives way to the type of the other operand: so must this again
    return _weak(array) if kind == "weak" else array


def _weak(array: jax.Array) -> jax.Array:
    numbers = [jnp.asarray(number) for number in np.asarray(array).ravel().tolist()]
    weak = jnp.stack(numbers).reshape(array.shape) if array.size else array
    return weak if weak.dtype == array.dtype else array


def generators() -> Any:
    return {"seeds": random_state(seeds)}


def load_generators(tree: Any) -> None:
    load_random_state(seeds, tree["seeds"])


def not_exact(compiled: Any) -> str | None:
    return None


def is_replayable(loader: Any) -> bool:
    return False


def set_lr(optimizer: Any, lr: float) -> None:
    """Nothing: what Optax computes with it was made anew."""
