"""Compute a trained language model token by token in NumPy or C++, without its framework.

For one character of one text there is little to compute: half a million multiplications for
512 hidden units. A framework spends more time on being called than on computing. So text is
written with the model's exported weights by the native kernels, or, where these were not built
and for several texts at once, with the same formulas on NumPy's arrays.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from unrolled.backends.numpy import xp
from unrolled.errors import ParameterError
from unrolled.functional.bptt import GATES, STEPS, Arrays, stack_gates
from unrolled.functional.recurrent import CELLS, RELU_RNN, Cell
from unrolled.functional.sampling import Draw, greedy
from unrolled.kernels import native
from unrolled.models.language_model import RecurrentLanguageModel
from unrolled.models.layer_options import option_label
from unrolled.models.layers import layer_prefix, without_prefix

Values = Mapping[str, npt.NDArray[Any]]

TOLERANCE = 1e-4
"""Largest difference to the model's own logits, beside the largest of them."""

RELU = option_label(None, {"activation": "relu"})
"""What the names of an RNN's weights say where its units are ``max(., 0)``."""

DECIDING = ("forward", "call", "__call__", "begin_state", "export_parameters")
"""Methods that decide what a model computes, or says of itself."""

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


@dataclass(frozen=True)
class Parts:
    """A recurrent language model's cell, and its weights layer by layer, from the ids up."""

    cell: Cell
    layers: Sequence[Values]
    W_hq: npt.NDArray[Any]
    b_q: npt.NDArray[Any]

    @classmethod
    def of(cls, values: Values) -> Self:
        """Tell the parts apart by their names.

        Args:
            values: parameters by name, as a model's ``export_parameters`` gives them.

        Raises:
            ParameterError: these are not the parameters of such a model.
        """
        count = max(
            (int(n) + 1 for n in re.findall(r"layers\.(\d+)\.", " ".join(values))), default=1
        )
        label = RELU if any(f"{RELU}W_xh" in name for name in values) else ""
        prefixes = [layer_prefix(i, count) + label for i in range(count)]
        parts = [without_prefix(prefix, values) for prefix in prefixes]
        layers = [{n: v for n, v in part.items() if n not in ("W_hq", "b_q")} for part in parts]
        cell = next((cell for cell in CELLS.values() if {*layers[0]} == {*cell.weights}), None)
        if cell is None or not {"W_hq", "b_q"} <= {*values}:
            raise ParameterError(f"no recurrent language model of ours: {', '.join(values)}")
        D, H = layers[0][cell.weights[0]].shape
        shapes = [cell.shapes(H if i else D, H) for i in range(count)]
        found = [{n: v.shape for n, v in layer.items()} for layer in layers]
        if found != shapes or values["W_hq"].shape[0] != H:
            raise ParameterError(f"no recurrent language model of ours: {found}")
        return cls(RELU_RNN if label else cell, layers, values["W_hq"], values["b_q"])


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
        parts: of the model.

    Example:
        >>> values = {"W_xh": np.eye(3), "W_hh": np.zeros((3, 3)), "b_h": np.zeros(3)}
        >>> stepper = Stepper(Parts.of(values | {"W_hq": np.eye(3), "b_q": np.zeros(3)}))
        >>> logits, state = stepper(np.array([[0, 2]]), stepper.begin_state(1))
        >>> logits.round(2)
        array([[0.  , 0.  , 0.76]])
    """

    def __init__(self, parts: Parts) -> None:
        self.layers = [Layer(parts.cell.engine, layer) for layer in parts.layers]
        self.inputs = [
            layer.inputs_of_rows() if i else layer.inputs_of_ids()
            for i, layer in enumerate(self.layers)
        ]
        self.times_W_hq, self.b_q = times(parts.W_hq), parts.b_q

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


class NativeStepper:
    """The same for one text, by the native kernels.

    Args:
        parts: of the model.

    Raises:
        ValueError: a type of numbers that the kernels lack.
    """

    def __init__(self, parts: Parts) -> None:
        def of_gates(kind: str) -> list[list[npt.NDArray[Any]]]:
            return [
                [np.ascontiguousarray(layer[f"{kind}{gate}"]) for gate in GATES[engine]]
                for layer in parts.layers
            ]

        engine, arrays = parts.cell.engine, np.ascontiguousarray
        self.reader = native.Reader(
            engine,
            of_gates("W_x"),
            of_gates("W_h"),
            of_gates("b_"),
            [arrays(layer["b_hh"]) for layer in parts.layers if "b_hh" in layer],
            arrays(parts.W_hq),
            arrays(parts.b_q),
        )

    def begin_state(self, batch_size: int) -> native.Reading:
        """The state before the first step, of one text."""
        return native.Reading(self.reader)

    def __call__(
        self, X: npt.NDArray[Any], state: native.Reading
    ) -> tuple[npt.NDArray[Any], native.Reading]:
        """Logits ``(1, V)`` after the last of the ids ``(1, T)``; the state is changed in place."""
        return state.read(X[0])[np.newaxis], state

    def write(
        self,
        ids: Sequence[int],
        count: int,
        choose: Callable[[npt.NDArray[Any]], int],
        state: native.Reading,
    ) -> list[int]:
        """Continue a text at once: no return to Python for every character.

        Returns:
            The ids that ``choose`` adds, ``count`` of them; none, if it is neither `greedy` nor
            a `Draw` from all tokens, and so must be asked itself.
        """
        how: dict[str, Any] = {}
        if isinstance(choose, Draw) and choose.temperature > 0:
            if choose.top_k is not None or choose.top_p is not None:
                return []
            how["uniform"] = choose.rng.random(count)  # what so many calls would draw
            how["temperature"] = choose.temperature
        elif not (choose is greedy or isinstance(choose, Draw)):
            return []
        chosen: list[int] = state.write(np.array(ids), count, **how).tolist()
        return chosen


def is_unchanged(net: Any) -> bool:
    """Whether only this library's code decides what a model computes.

    A method of a subclass may compute anything, and so may a hook.
    """
    classes = takewhile(lambda kind: not kind.__module__.startswith("unrolled."), type(net).__mro__)
    changed = any(name in vars(holder) for holder in (net, *classes) for name in DECIDING)
    return not changed and not any(map(_has_hooks, _blocks(net)))


def _has_hooks(block: Any) -> bool:
    """Whether a module of PyTorch or a block of Gluon has functions that are called with it."""
    return any(getattr(block, name, None) for name in ("_forward_hooks", "_forward_pre_hooks"))


def _blocks(net: Any) -> Iterator[Any]:
    """A model and all modules of PyTorch, or blocks of Gluon, inside it."""
    yield net
    inside = getattr(net, "_modules", None) or getattr(net, "_children", None) or {}
    for block in inside.values():
        yield from _blocks(block)


def stepper_of(
    net: Any, own_logits: Any, X: npt.NDArray[Any], batch_size: int
) -> Stepper | NativeStepper | None:
    """The model as a stepper, if it is one of the project's own.

    What it computes is told by the names of its parameters, see
    `unrolled.models.layer_options`, as long as no code but ours decides it. Whoever lets the
    stepper write has the model check the text all the same: see `unrolled.models.generation`.

    Args:
        net: the model.
        own_logits: ``ids (1, T) -> (1, V)``, what the model itself says after the last.
        X: ids ``(1, T)`` to ask it for, two at least: the first meets an empty state.
        batch_size: texts to be written side by side.
    """
    net = getattr(net, "net", net)
    if not isinstance(net, RecurrentLanguageModel) or not is_unchanged(net):
        return None
    try:
        parts = Parts.of(net.export_parameters())
    except (TypeError, ParameterError):  # another function, or numbers that NumPy lacks
        return None
    usable = batch_size == 1 and native.available()[0]
    kinds: tuple[Any, ...] = (NativeStepper, Stepper) if usable else (Stepper,)
    expected = own_logits(X)[-1]
    for kind in kinds:
        try:
            stepper = kind(parts)
        except ValueError:  # a type that the kernels lack
            continue
        (logits,), _ = stepper(X, stepper.begin_state(1))
        if (logits.dtype, logits.shape) != (expected.dtype, expected.shape):
            continue
        if np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max():
            return cast(Stepper | NativeStepper, stepper)
    return None
