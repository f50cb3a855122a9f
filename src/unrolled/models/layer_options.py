"""Label layer options that change what a layer computes, so that conversions refuse them.

The names of exported parameters tell them: ``activation=relu.W_xh`` is no ``W_xh``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import ParameterError, check_fit
from unrolled.functional.recurrent import CELLS
from unrolled.models.weights import NO_COUNTERPART
from unrolled.parameters import shapes_of

USUAL = {"activation=tanh", "recurrent_activation=sigmoid"}
"""Options of the cells written out; a layer with these alone gets no label."""

COMMON = {
    "nonlinearity": "activation",
    "activation_fn": "activation",
    "gate_fn": "recurrent_activation",
}
"""Keras' words for options of PyTorch and Flax."""

NAME = re.compile(
    r"(?:layers\.(?P<layer>\d+)\.)?(?:(?P<direction>forward|backward)\.)?"
    r"(?:(?P<label>\w+=.*)\.)?(?P<weight>\w+)"
)
"""A parameter's name: layer, direction, and a label of the options that change the function."""


def option_label(
    layer: Any, options: Mapping[str, Any], functions: Mapping[str, Sequence[Any]] = {}
) -> str:
    """Part of a parameter's name that says how a layer differs from the cell written out.

    So the names say which function the numbers belong to, and survive any copy of the dict.
    """
    labels = []
    for option, value in options.items():
        plain = isinstance(value, (str, bool, int, float))
        names = [n for n, same in functions.items() if any(value is function for function in same)]
        if not (plain or names):
            known = ", ".join(functions)
            raise ParameterError(
                f"this {type(layer).__name__} has {option}={getattr(value, '__name__', value)}, "
                f"which {NO_COUNTERPART}. Functions that are known: {known}"
            )
        labels.append(f"{COMMON.get(option, option)}={value if plain else names[0]}")
    labels = sorted(set(labels) - USUAL)
    return ",".join(labels) + "." if labels else ""


def check_layer(layer: Any, kinds: Iterable[type]) -> None:
    """Make sure that a layer is one of the framework's own, and no subclass of it."""
    kinds = list(kinds)
    if type(layer) not in kinds:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ParameterError(
            f"the layer is of type {type(layer).__name__}, which may compute something else than "
            f"{names}: it {NO_COUNTERPART}"
        )


def check_dropout(options: Mapping[str, Any], training: bool, how: str) -> None:
    """Make sure that nothing is dropped at random while a layer's function is carried over."""
    active = ", ".join(f"{option}={value}" for option, value in options.items() if value)
    if training and active:
        raise ParameterError(
            f"the layer has {active}, and the model is in training, where that drops values at "
            f"random; no other model drops the same. In evaluation nothing is dropped: {how} first"
        )


def check_no_bias(cell: str, values: Mapping[str, npt.NDArray[Any]], option: str) -> None:
    """Make sure that biases for a layer that has none are zero."""
    for name in CELLS[cell].weights:
        if name.startswith("b_") and np.any(values[name]):
            raise ParameterError(
                f"{name} is not zero, and this layer has no biases ({option}=False); make it with "
                f"{option}=True"
            )


def described(names: Iterable[str]) -> str:
    """Describe the model that parameters of these names belong to; nothing if it is not ours."""
    found = [match for match in map(NAME.fullmatch, names) if match]
    weights = {match["weight"] for match in found} - {"W_hq", "b_q"}
    cells = {name: {*cell.weights} for name, cell in CELLS.items()}
    cells["gru with reset_after=False"] = cells["gru"] - {"b_hh"}
    kind = [name for name, own in cells.items() if own == weights]
    if not kind:
        return ""
    layers = len({match["layer"] for match in found if match["layer"]})
    labels = {match["label"] for match in found if match["label"]}
    more = [f"num_layers={layers}"] if layers else []
    more += ["bidirectional"] if any(match["direction"] for match in found) else []
    return ", ".join([kind[0], *more, *sorted(labels)])


def check_same_function(
    expected: Mapping[str, npt.NDArray[Any]], given: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Make sure that values are of a model that computes the same, and of the same sizes."""
    try:
        check_fit(shapes_of(expected), shapes_of(given))
    except ParameterError as error:
        own, other = described(expected), described(given)
        if own == other or not (own and other):
            raise
        called = [f"{old} is {new}" for old, new in COMMON.items() if f", {new}=" in own + other]
        raise ParameterError(
            f"the values are of another function: {other}; this model computes: {own} (tanh and "
            "sigmoid, one layer, one direction where nothing else is said). Make both with the "
            "same options" + (f"; {', '.join(called)} here" if called else "") + f"\n{error}"
        ) from None


def array_named(values: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    """The array of this name."""
    if name not in values:
        raise ParameterError(
            f"the layer has no parameter '{name}'; there are: {', '.join(values)}. A layer whose "
            "weights were rewritten (weight_norm, pruning) is carried once that is undone"
        )
    return values[name]
