"""`first_not_finite` names the first tensor that is NaN or infinite."""

from collections.abc import Iterator, Mapping

from unrolled.backends import Array, Backend
from unrolled.training.not_finite import arrays_of, is_finite
from unrolled.training.records import Backward
from unrolled.training.tracing import ThroughTime


def first_not_finite(
    backend: Backend,
    parameters: Mapping[str, Array],
    backward: Backward | None,
    through_time: ThroughTime,
) -> str | None:
    """Name of the first tensor of a step that is NaN or infinite.

    In the order of computation: ``"input 0"``, ``"part 0 of the first state"``, ``"the weight
    W_hh"``, of every layer the hidden states (``"hidden state 7 of layers.0"`` is that of time
    step 7 of the text), ``"the loss"``; then back: ``"the gradient at hidden state 7 of
    layers.0"`` and ``"the gradient of W_hh"``, the last ones first.
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
    through_time: ThroughTime,
) -> Iterator[tuple[str, Array]]:
    if backward is not None:
        yield from ((f"input {i}", array) for i, array in enumerate(backward.batch))
        for i, array in enumerate(arrays_of(backward.state)):
            yield f"part {i} of the first state", array
    yield from ((f"the weight {name}", array) for name, array in parameters.items())
    hidden_states: list[tuple[str, Array]] = []
    gradients: list[tuple[str, Array]] = []
    earlier: dict[str, int] = {}  # steps of the pieces before, by layer
    for name, layer in through_time.layers.items():
        base, T = name.partition("#")[0], int(layer.after.shape[0])
        first = earlier.get(base, 0)
        earlier[base] = first + T
        places = range(first, first + T)[:: -1 if layer.reverse else 1]
        for into, arrays in ((hidden_states, layer.after), (gradients, layer.hidden)):
            if not is_finite(backend, arrays):  # else there is no need to look at each
                into += [(f"hidden state {t} of {base}", arrays[i]) for i, t in enumerate(places)]
    yield from hidden_states
    if backward is None:
        return
    yield "the loss", backward.loss
    yield from ((f"the gradient at {name}", array) for name, array in reversed(gradients))
    for name in reversed(list(backward.gradients)):
        yield f"the gradient of {name}", backward.gradients[name]
