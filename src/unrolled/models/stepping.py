"""`NativeStepper` writes the text of a trained recurrent model by the native kernels.

For one character of one text a framework spends more time on being called than on computing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from unrolled import native
from unrolled.errors import ParameterError
from unrolled.functional.bptt import GATES
from unrolled.functional.recurrent import CELLS, RELU_RNN, Cell
from unrolled.functional.sampling import Draw, greedy
from unrolled.models.language_model import RecurrentLanguageModel
from unrolled.models.layer_options import option_label
from unrolled.models.weights import cell_of, layer_prefix, parameter_shapes
from unrolled.parameters import shapes_of

Values = Mapping[str, npt.NDArray[Any]]

RELU = option_label(None, {"activation": "relu"})
"""What the names of an RNN's weights say where its units are ``max(., 0)``."""

DECIDING = ("forward", "call", "__call__", "begin_state", "export_parameters")
"""Methods that decide what a model computes, or says of itself."""


@dataclass(frozen=True)
class Parts:
    """A recurrent language model's cell, and its weights layer by layer, from the ids up."""

    cell: Cell
    layers: Sequence[Values]
    W_hq: npt.NDArray[Any]
    b_q: npt.NDArray[Any]

    @classmethod
    def of(cls, values: Values) -> Self:
        """Tell the parts apart by their names."""
        labelled = sum(RELU in name for name in values)
        plain = {name.replace(RELU, ""): value for name, value in values.items()}
        found = cell_of(plain)
        if found is None or labelled not in (0, len(values) - 2):
            raise ParameterError(f"no recurrent language model of ours: {', '.join(values)}")
        name, count, _ = found
        H, V = plain["W_hq"].shape
        shapes = shapes_of(plain)
        if shapes != parameter_shapes(name, count, V, H) or (labelled and name != "rnn"):
            raise ParameterError(f"no recurrent language model of ours: {shapes}")
        weights = CELLS[name].weights
        prefixes = [layer_prefix(i, count) for i in range(count)]
        layers = [{w: plain[prefix + w] for w in weights} for prefix in prefixes]
        return cls(RELU_RNN if labelled else CELLS[name], layers, plain["W_hq"], plain["b_q"])


class NativeStepper:
    """A recurrent language model of the project's own, one text at a time."""

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

    def begin_state(self) -> native.Reading:
        """The state before the first step."""
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


def stepper_of(net: Any) -> NativeStepper | None:
    """The model as a stepper, if it is one of the project's own and the kernels can compute it.

    What it computes is told by the names of its parameters, see
    `unrolled.models.layer_options`, as long as no code but ours decides it. Whoever lets the
    stepper write has the model check the text all the same: see `unrolled.models.generation`.
    """
    net = getattr(net, "net", net)
    if not isinstance(net, RecurrentLanguageModel) or not is_unchanged(net):
        return None
    if not native.available()[0]:
        return None
    try:
        return NativeStepper(Parts.of(net.export_parameters()))
    except (TypeError, ValueError, ParameterError):  # another function or type of numbers
        return None
