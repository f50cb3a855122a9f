"""`first_not_finite` names the first tensor that is NaN or infinite."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unrolled.backends import Array, Backend
from unrolled.training.records import Backward
from unrolled.training.tracing import ThroughTime, TracedLayer


def is_finite(backend: Backend, array: Array) -> bool:
    """Whether an array is free of NaN and infinity; integers always are."""
    return backend.xp.is_integer(array) or not np.isnan(_nan_if_not_finite(backend, array))


def first_not_finite(
    backend: Backend,
    parameters: Mapping[str, Array],
    backward: Backward | None,
    through_time: ThroughTime | None = None,
) -> str | None:
    """Name of the first tensor that is NaN or infinite.

    In the order of computation: ``"input 0"``, ``"part 0 of the first state"``, ``"the weight
    W_hh"``, of every layer the hidden states (``"hidden state 7 of layers.0"`` is that of time
    step 7 of the text), ``"the loss"``; then back: ``"the gradient at hidden state 7 of
    layers.0"`` and ``"the gradient of W_hh"``, the last ones first.

    Args:
        backend: of the model.
        parameters: as they were in the step that failed.
        backward: what is known of that step.
        through_time: its recurrences, if they were traced.
    """
    with backend.without_gradients():
        for name, array in _in_order(backend, parameters, backward, through_time):
            if not is_finite(backend, array):
                return name
    return None


def _in_order(
    backend: Backend,
    parameters: Mapping[str, Array],
    backward: Backward | None,
    through_time: ThroughTime | None,
) -> Iterator[tuple[str, Array]]:
    layers = {} if through_time is None else through_time.layers
    if backward is not None:
        yield from ((f"input {i}", array) for i, array in enumerate(backward.batch))
        for i, array in enumerate(_flat(backward.state)):
            yield f"part {i} of the first state", array
    yield from ((f"the weight {name}", array) for name, array in parameters.items())
    earlier = _earlier_steps(layers)
    for name, layer in layers.items():
        for t in _steps(backend, layer.after):
            yield (
                f"hidden state {earlier[name] + _place(layer, t)} of {_base(name)}",
                layer.after[t],
            )
    if backward is None:
        return
    yield "the loss", backward.loss
    for name, layer in reversed(layers.items()):
        for t in reversed(_steps(backend, layer.hidden)):
            place = earlier[name] + _place(layer, t)
            yield f"the gradient at hidden state {place} of {_base(name)}", layer.hidden[t]
    for name in reversed(list(backward.gradients)):
        yield f"the gradient of {name}", backward.gradients[name]


def _base(name: str) -> str:
    """The layer's name without the piece of the sequence."""
    return name.partition("#")[0]


def _earlier_steps(layers: Mapping[str, TracedLayer]) -> dict[str, int]:
    """Of every layer and piece, the time steps of the pieces before."""
    totals: dict[str, int] = {}
    earlier = {}
    for name, layer in layers.items():
        earlier[name] = totals.get(_base(name), 0)
        totals[_base(name)] = earlier[name] + int(layer.after.shape[0])
    return earlier


def _steps(backend: Backend, array: Array) -> range:
    """The time steps of ``(T, B, H)`` to look at: none if all is finite."""
    return range(0 if is_finite(backend, array) else array.shape[0])


def _place(layer: TracedLayer, t: int) -> int:
    """The time step of the piece, in the order of the text."""
    return int(layer.after.shape[0]) - 1 - t if layer.reverse else t


def _flat(state: Any) -> list[Array]:
    if state is None:
        return []
    if isinstance(state, (tuple, list)):
        return [array for part in state for array in _flat(part)]
    return [state]


def _nan_if_not_finite(backend: Backend, array: Array) -> float:
    # x - x is 0 for every number, however large, but for infinity and NaN
    return float(backend.xp.sum(array - array))
