"""Find the variables of a model of TensorFlow or Keras, by dotted name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

GENERATORS = (keras.random.SeedGenerator, tf.random.Generator)
"""Classes that draw random numbers from a variable; layers with dropout have one."""


def variable_of(variable: Any) -> tf.Variable:
    """The TensorFlow variable inside one of Keras' own."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def variables(
    node: Any, above: tuple[Any, ...], frozen: bool, generators: bool = False
) -> Iterator[tuple[list[str], tf.Variable]]:
    """Variables in order of declaration, each with its path of attributes.

    Only those that are trained, or those that are frozen, too; and the states of generators.
    """
    for part, child in children(node, frozen, generators):
        if isinstance(child, (tf.Variable, keras.Variable)):
            if child.trainable or frozen:
                yield [part], variable_of(child)
        elif not any(child is other for other in above):  # a way back up
            for path, variable in variables(child, (*above, node), frozen, generators):
                yield [part, *path], variable


def children(
    node: Any, frozen: bool = False, generators: bool = False
) -> Iterable[tuple[str, Any]]:
    """Give the parts of a module, a layer or a container of them, by name."""
    if isinstance(node, keras.Sequential) or hasattr(node, "operations"):  # of given layers
        node = node.layers
    if isinstance(node, (list, tuple)):
        return ((str(i), child) for i, child in enumerate(node))
    if isinstance(node, Mapping):
        return ((str(key), child) for key, child in node.items())
    if isinstance(node, GENERATORS):
        return (("state", node.state),)
    if not isinstance(node, (tf.Module, keras.Layer)):
        return ()
    if not (frozen or getattr(node, "trainable", True)):
        return ()
    parts = (tf.Variable, keras.Variable, tf.Module, keras.Layer)
    parts += GENERATORS if generators else ()
    # Keras keeps Dense.kernel as _kernel; its private containers list all once more
    return (
        (part.lstrip("_"), child)
        for part, child in vars(node).items()
        if isinstance(child, parts)
        or (isinstance(child, (list, tuple, Mapping)) and part[0] != "_" and part != "hparams")
    )
