"""The files of a checkpoint as bytes: model.safetensors, training.safetensors and state.json."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from unrolled.checkpoints.tree import MOST_DEPTH, Array, flatten, unflatten
from unrolled.errors import RunError
from unrolled.parameters.files import to_bytes
from unrolled.untrusted import parse_json

MOST_NESTED = 10 * MOST_DEPTH
"""Levels of lists and objects in a file: several for one of the tree."""

MODEL, TRAINING, STATE = "model.safetensors", "training.safetensors", "state.json"


def pack(tree: Any, model: Mapping[str, Array]) -> dict[str, bytes]:
    """The files of a checkpoint, by name: the same bytes whenever they hold the same.

    Args:
        tree: the state of the training, see `unrolled.checkpoints.tree`.
        model: the parameters by name; one array under several names is tied, and kept once.
    """
    parameters, model_arrays = flatten(dict(model))
    state, arrays = flatten(tree)
    names = {place: part["$array"][0] for place, part in parameters.items()}
    tied = {place: name for place, name in names.items() if name != place}
    text = json.dumps({"model": parameters, "state": state}, ensure_ascii=False, allow_nan=False)
    return {
        MODEL: to_bytes(model_arrays, tied),
        TRAINING: to_bytes(arrays),
        STATE: text.encode() + b"\n",
    }


def unpack(files: Mapping[str, bytes]) -> tuple[Any, dict[str, Array]]:
    """The tree and the parameters by name that `pack` was given; arrays can be written to."""
    for name in (MODEL, TRAINING, STATE):
        if name not in files:
            raise RunError(f"{name} is missing; use another checkpoint")
    value = read_json(files[STATE], STATE)
    if type(value) is not dict or value.keys() != {"model", "state"}:
        _damaged(STATE, "it is no object of 'model' and 'state'")
    model = unflatten(value["model"], _read_arrays(files[MODEL], MODEL))
    if type(model) is not dict or not all(type(part) is np.ndarray for part in model.values()):
        _damaged(STATE, "its 'model' is no object of arrays")
    return unflatten(value["state"], _read_arrays(files[TRAINING], TRAINING)), model


def read_json(content: bytes, name: str) -> Any:
    """A value from strict JSON; a `RunError` says that the file of this name is damaged."""
    try:
        return parse_json(content, MOST_NESTED, strict=True)
    except ValueError as error:
        _damaged(name, error)


def _read_arrays(content: bytes, name: str) -> dict[str, Array]:
    try:
        arrays = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        _damaged(name, f"{error!r:.200}")
    # some versions of safetensors give views of bytes, which cannot be written to
    return {
        each: array if array.flags.writeable else array.copy() for each, array in arrays.items()
    }


def _damaged(name: str, why: object) -> NoReturn:
    raise RunError(f"{name} is damaged: {why}")
