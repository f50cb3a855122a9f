"""State of Keras' optimizers, variables and generators, read and restored exactly."""

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from tensorflow.python.eager import context
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops import stateful_random_ops

from unrolled.backends.namespace import Array
from unrolled.backends.state.encoding import (
    check_arrays,
    check_class,
    class_name,
    decode,
    state_of,
)
from unrolled.backends.state.generators import load_random_state, random_state
from unrolled.backends.tied import without_ties
from unrolled.backends.variables.tensorflow import variable_of, variables
from unrolled.errors import ParameterError, SettingError


def buffers(model: Any) -> dict[str, Array]:
    trained = {id(variable) for _, variable in variables(model, (), frozen=False)}
    every = variables(model, (), frozen=True, generators=True)
    found = without_ties({".".join(path): variable for path, variable in every})
    known = trained | {id(variable) for variable in found.values()}
    # what Keras lists and no attribute leads to
    listed = enumerate(model.variables if isinstance(model, keras.Layer) else ())
    others = {f"variables.{i}": variable_of(v) for i, v in listed if not v.trainable}
    found |= {name: variable for name, variable in others.items() if id(variable) not in known}
    return {name: variable for name, variable in found.items() if id(variable) not in trained}


def load_buffers(model: Any, values: Mapping[str, npt.NDArray[Any]]) -> None:
    found = buffers(model)
    check_arrays({name: np.asarray(v.numpy()) for name, v in found.items()}, values)
    for name, variable in found.items():
        variable.assign(values[name])


def optimizer_state(optimizer: Any, parameters: Mapping[str, Array]) -> Any:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        return state_of(optimizer, _array)
    return {
        "class": class_name(optimizer),
        # Keras makes the state at the first step, for those that have a gradient then
        "built_for": _moved(optimizer, parameters) if optimizer.built else None,
        "variables": [_array(variable) for variable in optimizer.variables],
    }


def _moved(optimizer: Any, parameters: Mapping[str, Array]) -> list[str]:
    """The names of the variables for which an optimizer has made its state."""
    names = {id(variable): name for name, variable in parameters.items()}
    moved = [variable_of(variable) for variable in optimizer._trainable_variables]
    unknown = [variable.name for variable in moved if id(variable) not in names]
    if unknown:
        raise ParameterError(
            f"the optimizer moves {unknown[0]}, which is no parameter of the model: keep it as "
            "an attribute of the model, or give it an optimizer of its own"
        )
    return [names[id(variable)] for variable in moved]


def load_optimizer_state(optimizer: Any, tree: Any, parameters: Mapping[str, Array]) -> None:
    check_class(optimizer, tree)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer.load_state_dict(decode(tree["state"], _tensor))
        return
    names = tree["built_for"]
    if names is not None and not optimizer.built:
        missing = [name for name in names if name not in parameters]
        if missing:
            raise ParameterError(f"the state is of {missing[0]}, which the model has not")
        with keras.name_scope(optimizer.name):
            optimizer.build([parameters[name] for name in names])
    if names is not None and optimizer.built and names != _moved(optimizer, parameters):
        raise ParameterError(
            f"the state is of {', '.join(names or ['no variables'])}; the optimizer moves "
            f"{', '.join(_moved(optimizer, parameters))}"
        )
    found = optimizer.variables
    if names is None and optimizer.built:  # it has stepped since
        _begin_anew(optimizer)
        found = found[: len(tree["variables"])]
    check_arrays(_numbered(map(_array, found)), _numbered(tree["variables"]))
    for variable, value in zip(found, tree["variables"], strict=True):
        variable.assign(value)


def _begin_anew(optimizer: Any) -> None:
    """Give an optimizer's variables the values that Keras gives them before the first step."""
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise SettingError(
            f"a {type(optimizer).__name__} cannot go back to before its first step: give it, and "
            f"its learning rate schedule, get_config() and from_config(config) ({error})"
        ) from None
    fresh.build(optimizer._trainable_variables)
    for variable, value in zip(optimizer.variables, fresh.variables, strict=True):
        variable.assign(value)


def _numbered(arrays: Iterable[Any]) -> dict[str, Any]:
    """By number: Keras' own names of an optimizer's variables are not unique."""
    return {f"variable {i} of the optimizer": array for i, array in enumerate(arrays)}


def _array(variable: Any) -> Any:
    """A copy of a variable's or tensor's values; None of anything else."""
    if isinstance(variable, (tf.Variable, tf.Tensor, keras.Variable)):
        return np.array(variable.numpy())
    return None


def _tensor(tree: Any) -> Any:
    return tf.constant(tree) if isinstance(tree, np.ndarray) else None


def generators() -> dict[str, Any]:
    eager, ours = context.context(), global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    theirs = stateful_random_ops.global_generator
    return {
        "seed": eager._seed,
        "seeds": None if eager._seed is None else random_state(eager._rng),
        "keras": None if ours is None else _array(ours.state),
        "generator": None
        if theirs is None
        else {"algorithm": int(theirs.algorithm), "state": _array(theirs.state)},
    }


def load_generators(tree: Any) -> None:
    eager = context.context()
    if tree["seed"] is not None:
        tf.random.set_seed(tree["seed"])  # it also forgets what kernels have drawn so far
        load_random_state(eager._rng, tree["seeds"])
    _load_keras_generator(tree["keras"])
    kept, now = tree["generator"], stateful_random_ops.global_generator
    if kept is None:
        stateful_random_ops.global_generator = None
    elif now is not None and int(now.algorithm) == kept["algorithm"]:
        now.state.assign(kept["state"])  # in place: compiled functions know the variable
    else:
        made = tf.random.Generator.from_state(kept["state"], kept["algorithm"])
        tf.random.set_global_generator(made)


def _load_keras_generator(state: Any) -> None:
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    if state is not None and generator is None:
        generator = keras.random.SeedGenerator(0)  # a seed: else it draws one from `random`
    if state is not None:
        generator.state.assign(state)
    global_state.set_global_attribute(
        GLOBAL_SEED_GENERATOR, generator if state is not None else None
    )


def not_exact(compiled: Any) -> str | None:
    for node in _nodes(compiled):
        definition = op_def_registry.get(node.op)
        # kernels of such operations count what they have drawn, where nobody can read it
        if definition is None or "seed2" not in {attribute.name for attribute in definition.attr}:
            continue
        if "dropout" in node.attr and node.attr["dropout"].f == 0:
            continue  # recurrent layers on a GPU
        return (
            f"TensorFlow's operation {node.op} ({node.name}) counts its draws inside a compiled "
            "function, where they cannot be restored: draw with keras.random, a layer of Keras, "
            "a tf.random.Generator or tf.random.stateless_uniform instead"
        )
    return None


functions_of = attrgetter("library.function")
"""The functions that a definition of a graph brings along."""


def _nodes(compiled: Any) -> Iterator[Any]:
    """The operations of every graph that a function of ``backend.compile`` has made so far."""
    for function in getattr(compiled, "graphs", ()):
        if not function.experimental_get_tracing_count():
            continue  # asked for its graphs, TensorFlow may make one
        for concrete in function._list_all_concrete_functions():
            graph = concrete.graph.as_graph_def()
            yield from graph.node
            for inner in functions_of(graph):
                yield from inner.node_def


def is_replayable(loader: Any) -> bool:
    return False


def set_lr(optimizer: Any, lr: float) -> None:
    if isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer.learning_rate = lr
    else:
        optimizer.lr = lr
