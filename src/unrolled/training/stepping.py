"""A trained recurrent model one character at a time, in NumPy.

For one character of one text there is little to compute: half a million multiplications for
512 hidden units. A framework spends more time on being called than on computing. So text is
written with the same formulas on NumPy's arrays, with the model's exported weights.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.backends.numpy import xp
from unrolled.errors import ParameterError
from unrolled.functional.bptt import GATES, STEPS, Arrays, stack_gates
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.models.layers import layer_prefix, without_prefix

Values = Mapping[str, npt.NDArray[Any]]

TOLERANCE = 1e-4
"""Largest difference to the model's own logits, beside the largest of them."""


SMALL_TABLE = 2**20
"""Numbers in an input side that is worth to be made ready for every id there is."""


def times(W: npt.NDArray[Any]) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """The function ``x -> x W`` of a vector ``(D,)`` or of rows ``(B, D)``.

    For a vector it is computed row by row of the transpose, by one thread: a product that
    takes 10 microseconds is over before a second thread has woken up, and where another
    program, or the framework, keeps that thread's core busy, it takes a hundred.
    """
    W_T = np.ascontiguousarray(W.T)
    if not hasattr(np, "vecdot"):  # before NumPy 2
        return lambda x: x @ W_T.T
    return lambda x: np.vecdot(W_T, x) if x.ndim == 1 else x @ W_T.T


class Layer:
    """One recurrent layer: the weights of its gates side by side.

    Args:
        engine: name of the cell's step in `unrolled.functional.bptt.STEPS`.
        values: its weights by name.
    """

    def __init__(self, engine: str, values: Values) -> None:
        self.step, _ = STEPS[engine]
        gates = GATES[engine]
        self.W_x = [values[f"W_x{gate}"] for gate in gates]  # (D, H) each
        self.b = stack_gates(xp, [values[f"b_{gate}"] for gate in gates])  # (G * H,)
        W_h = stack_gates(xp, [values[f"W_h{gate}"] for gate in gates])  # (H, G * H)
        self.times_W_h = times(W_h)
        self.num_hiddens, self.dtype = len(W_h), W_h.dtype
        self.b_hh = values.get("b_hh", 0.0)
        self.num_states = 2 if engine == "lstm" else 1

    def inputs_of_ids(self) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        """From ids ``(B,)`` to what they contribute, ``(B, G * H)``."""
        if len(self.W_x) * self.W_x[0].size > SMALL_TABLE:
            return lambda ids: stack_gates(xp, [W[ids] for W in self.W_x]) + self.b
        table = stack_gates(xp, self.W_x) + self.b  # (V, G * H)
        return lambda ids: table[ids]

    def inputs_of_rows(self) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        """From the layer below, ``(B, D)``, to what it contributes, ``(B, G * H)``."""
        times_W_x = times(stack_gates(xp, self.W_x))  # (D, G * H)
        return lambda X: times_W_x(X) + self.b

    def begin_state(self, batch_size: int) -> Arrays:
        rows = () if batch_size == 1 else (batch_size,)  # vectors are faster than one row
        return (np.zeros((*rows, self.num_hiddens), self.dtype),) * self.num_states

    def __call__(self, A: npt.NDArray[Any], state: Arrays) -> Arrays:
        """The state ``(B, H)`` after one more step, to which the input contributes ``A``."""
        return self.step(xp, A, self.times_W_h(state[0]), state, self.b_hh)[0]


class Stepper:
    """A recurrent language model of the project's own, in NumPy.

    Args:
        values: parameters by name, as a model's ``export_parameters`` gives them.
        relu: units ``max(., 0)`` where an RNN has tanh, which the names do not tell.

    Raises:
        ParameterError: these are not the parameters of such a model.

    Example:
        >>> values = {"W_xh": np.eye(3), "W_hh": np.zeros((3, 3)), "b_h": np.zeros(3)}
        >>> stepper = Stepper(values | {"W_hq": np.eye(3), "b_q": np.zeros(3)})
        >>> logits, state = stepper(np.array([[0, 2]]), stepper.begin_state(1))
        >>> logits.round(2)
        array([[0.  , 0.  , 0.76]])
    """

    def __init__(self, values: Values, relu: bool = False) -> None:
        count = max(
            (int(n) + 1 for n in re.findall(r"layers\.(\d+)\.", " ".join(values))), default=1
        )
        parts = [without_prefix(layer_prefix(i, count), values) for i in range(count)]
        weights = [{n: v for n, v in part.items() if n not in ("W_hq", "b_q")} for part in parts]
        cell = next((cell for cell in CELLS.values() if {*weights[0]} == {*cell.weights}), None)
        if cell is None or not {"W_hq", "b_q"} <= {*values}:
            raise ParameterError(f"no recurrent language model of ours: {', '.join(values)}")
        D, H = weights[0][cell.weights[0]].shape
        shapes = [cell.shapes(H if i else D, H) for i in range(count)]
        found = [{n: v.shape for n, v in layer.items()} for layer in weights]
        if found != shapes or values["W_hq"].shape[0] != H:
            raise ParameterError(f"no recurrent language model of ours: {found}")
        self.cell = RELU_RNN if relu and cell.name == "rnn" else cell
        self.layers = [Layer(self.cell.engine, layer) for layer in weights]
        self.inputs = [
            layer.inputs_of_rows() if i else layer.inputs_of_ids()
            for i, layer in enumerate(self.layers)
        ]
        self.times_W_hq, self.b_q = times(values["W_hq"]), values["b_q"]

    def begin_state(self, batch_size: int) -> list[Arrays]:
        """The state before the first step."""
        return [layer.begin_state(batch_size) for layer in self.layers]

    def __call__(
        self, X: npt.NDArray[Any], state: list[Arrays]
    ) -> tuple[npt.NDArray[Any], list[Arrays]]:
        """Logits ``(B, V)`` after the last of the ids ``(B, T)``, and the state."""
        B = len(X)
        for X_t in X.T if B > 1 else X[0]:
            H, old, state = X_t, state, []  # (B,)
            for layer, inputs, before in zip(self.layers, self.inputs, old, strict=True):
                state.append(layer(inputs(H), before))
                H = state[-1][0]  # (B, H)
        return (self.times_W_hq(H) + self.b_q).reshape(B, -1), state


def stepper_of(net: Any, own_logits: Any, X: npt.NDArray[Any]) -> Stepper | None:
    """The model as a `Stepper`, if it is one of the project's own and computes the same.

    A subclass, a hook or another activation may have changed what a model computes, so it
    is asked once, and the answers are compared.

    Args:
        net: the model.
        own_logits: ``ids (1, T) -> (T, V)``, what the model itself says.
        X: ids ``(1, T)`` to ask it for, two at least: the first meets an empty state.
    """
    net = getattr(net, "net", net)
    try:
        values = net.export_parameters()
        steppers = [Stepper(values)]
        if steppers[0].cell.name == "rnn":
            steppers.append(Stepper(values, relu=True))
    except (AttributeError, TypeError, ParameterError):  # not ours, or not NumPy's types
        return None
    expected = own_logits(X)[-1]
    for stepper in steppers:
        (logits,), _ = stepper(X, stepper.begin_state(1))
        if (logits.dtype, logits.shape) != (expected.dtype, expected.shape):
            continue
        if np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max():
            return stepper
    return None
