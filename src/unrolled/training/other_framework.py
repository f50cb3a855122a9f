"""Go on with the state of a training that another framework has begun, as `convert` carries it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from unrolled.errors import RunError
from unrolled.training.position import generators
from unrolled.training.training_state import as_surroundings, hyperparameters

FROM = "carried_from"

OWN = ("buffers", "optimizer", "generators", "trainer", "surroundings", "draws")
"""Parts of a state that belong to a framework; all others mean the same in each."""


def to_carry(
    state: Mapping[str, Any], framework: str, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The parts of a state that mean something in another framework.

    Args:
        state: of a training with plain SGD, as a checkpoint holds it, without its parameters.
        framework: that has begun it.
        parameters: by the framework's names.

    Raises:
        RunError: the optimizer keeps values that have no counterpart.
    """
    if FROM in state:  # nobody has gone on with it yet
        return dict(state)
    if _has_arrays(state["optimizer"]):
        raise RunError(
            "the optimizer keeps arrays beside the parameters, which have no counterpart in "
            "another framework; go on in the same one: unrolled run --resume RUN"
        )
    # what a rollback goes back to is kept anew, at this place
    recovery = {**state["recovery"], "kept": None, "kept_step": state["position"]["step"]}
    last_good = None  # of large tables it may have a few rows: the first step makes it anew
    found = {name: part for name, part in state.items() if name not in OWN}
    source = {"name": framework, "size": _size(parameters)}
    return {**found, "recovery": recovery, "last_good": last_good, FROM: source}


def adopted(trainer: Any, state: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The state as one of a prepared trainer's framework, and what is to be said of it.

    Parameters come under the names of `Module.export_parameters`; the carried hidden state has the
    same layout everywhere. One of this framework is given back as it is.
    """
    if FROM not in state:
        return state, []
    backend = trainer.backend
    buffers = backend.state.buffers(trainer.bound_model)
    own = {
        "buffers": {n: np.array(backend.to_numpy(array)) for n, array in buffers.items()},
        "optimizer": backend.state.optimizer_state(trainer.optim, trainer.parameters),
        "generators": generators(backend),
        "trainer": trainer.own_state(),
        "surroundings": as_surroundings(trainer),
        "draws": None,
        "parameters": trainer.bound_model.native_values(state["parameters"]),
        "settings": {**state["settings"], "model": hyperparameters(trainer)["model"]},
    }
    return {**state, **own}, [_told(state[FROM], backend.name, trainer.parameters)]


def _told(source: Mapping[str, Any], framework: str, parameters: Mapping[str, Any]) -> str:
    """Say whether the rest of the training equals that in the first framework to rounding."""
    before, now = source["size"], _size(parameters)
    if before == now:
        return f"carried from {source['name']}: equal to rounding"
    return (
        f"carried from {source['name']}: weights and hidden state are equal to rounding, but what "
        f"follows is not. Its layers train {before:,} numbers and those of {framework} {now:,}: "
        "some frameworks have two biases where others have one, and their sum moves twice as fast"
    )


def _size(parameters: Mapping[str, Any]) -> int:
    return sum(math.prod(value.shape) for value in parameters.values())


def _has_arrays(value: Any) -> bool:
    """Return whether a state holds arrays of more than one number."""
    if isinstance(value, Mapping):
        return any(map(_has_arrays, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_arrays, value))
    return isinstance(value, np.ndarray) and value.size > 1
