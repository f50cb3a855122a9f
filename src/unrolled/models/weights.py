"""Names and shapes of recurrent weights; convert those of frameworks' layers to ours, and back.

Frameworks keep the weights of all gates side by side, each in an order of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import ParameterError
from unrolled.functional.recurrent import CELLS
from unrolled.parameters import listed

Values = dict[str, npt.NDArray[Any]]

GATE_ORDERS = {
    # and cuDNN, and Gluon
    "torch": {"rnn": "h", "rnn_relu": "h", "gru": "rzh", "lstm": "ifco"},
    "keras": {"rnn": "h", "gru": "zrh", "lstm": "ifco"},
    "onnx": {"rnn": "h", "gru": "zrh", "lstm": "iofc"},
}
"""In which order the gates of a layer stand, by our letters; in our own kernels it is that of
`unrolled.functional.bptt.GATES`. Flax keeps an array for each gate."""

BIASES_THAT_STAY_APART = {("gru", "h")}
"""Where the bias of the recurrent side is multiplied by a gate, it cannot be merged."""


NO_COUNTERPART = (
    "has no counterpart in the cells written out; keep this model in a file of its own framework, "
    "parameters(model).save(path)"
)

EXPORTING = (
    "the cells written out; keep this model in a file of its own framework, "
    "parameters(model).save(path), or tie the cells of a model from scratch"
)

IMPORTING = (
    "the framework's own layers; take the values into a model from scratch, or copies of them "
    "that are not tied: {name: value.copy() for name, value in values.items()}"
)


def check_apart(values: Mapping[str, Any], where: str = EXPORTING) -> Mapping[str, Any]:
    """The values of a framework's layers or for them, of which no two may be one array.

    Gates are told apart or put together and biases added up on the way, and a tie would not
    survive that.
    """
    for first, *others in (p.places for p in listed(values)):
        if others:
            raise ParameterError(
                f"{', '.join(others)} is tied to {first}, which has no counterpart in {where}"
            )
    return values


def split_gates(
    cell: str,
    gates: str,
    kernel_x: npt.NDArray[Any],
    kernel_h: npt.NDArray[Any],
    bias_x: npt.NDArray[Any],
    bias_h: npt.NDArray[Any],
) -> Values:
    """One layer's stacked weights as those of the cell, by its names.

    The two biases of a gate add up to one, but for the GRU's candidate.

    Args:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        gates: the framework's order, see `GATE_ORDERS`.
        kernel_x: ``(D, G * H)``, G gates.
        kernel_h: ``(H, G * H)``.
        bias_x: ``(G * H,)``, added to the input side.
        bias_h: ``(G * H,)``, added to the recurrent side; zeros if the framework has one.

    Returns:
        Arrays by the names of `unrolled.functional.recurrent.CELLS`, in that order.

    Example:
        >>> one = np.ones((2, 3)), np.ones((3, 3)), np.ones(3), np.ones(3)
        >>> {name: value.shape for name, value in split_gates("rnn", "h", *one).items()}
        {'W_xh': (2, 3), 'W_hh': (3, 3), 'b_h': (3,)}
        >>> split_gates("rnn", "h", *one)["b_h"]
        array([2., 2., 2.])
    """
    parts: Values = {}
    blocks = (np.split(a, len(gates), axis=-1) for a in (kernel_x, kernel_h, bias_x, bias_h))
    for gate, W_x, W_h, b_x, b_h in zip(gates, *blocks, strict=True):
        parts |= {f"W_x{gate}": W_x, f"W_h{gate}": W_h}
        if (cell, gate) in BIASES_THAT_STAY_APART:
            parts |= {f"b_{gate}": b_x, f"b_h{gate}": b_h}
        else:
            parts[f"b_{gate}"] = b_x + b_h
    return {name: parts[name] for name in CELLS[cell].weights}


def join_gates(
    cell: str, gates: str, values: Mapping[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """The inverse of `split_gates`; merged biases come back on the input side."""
    bias_h = [
        values[f"b_h{g}"]
        if (cell, g) in BIASES_THAT_STAY_APART
        else np.zeros_like(values[f"b_{g}"])
        for g in gates
    ]
    return (
        np.concatenate([values[f"W_x{g}"] for g in gates], axis=-1),
        np.concatenate([values[f"W_h{g}"] for g in gates], axis=-1),
        np.concatenate([values[f"b_{g}"] for g in gates]),
        np.concatenate(bias_h),
    )


def layer_prefix(layer: int, num_layers: int, direction: int = 0, num_directions: int = 1) -> str:
    """What stands before a layer's parameter names."""
    layers = f"layers.{layer}." if num_layers > 1 else ""
    return layers + (("forward.", "backward.")[direction] if num_directions > 1 else "")


def with_prefix(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under longer names."""
    return {prefix + name: value for name, value in values.items()}


def without_prefix(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values whose names begin with the prefix, under shorter names."""
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}


def parameter_shapes(
    cell: str, num_layers: int, vocab_size: int, num_hiddens: int
) -> dict[str, tuple[int, ...]]:
    """Shapes of a language model's parameters by name, whatever computes it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        num_inputs = vocab_size if layer == 0 else num_hiddens
        weights = CELLS[cell].shapes(num_inputs, num_hiddens)
        shapes |= with_prefix(layer_prefix(layer, num_layers), weights)
    return shapes | {"W_hq": (num_hiddens, vocab_size), "b_q": (vocab_size,)}


def cell_of(names: Iterable[str]) -> tuple[str, int, list[str]] | None:
    """Cell, number of layers, and order of the names, if they are those of our models."""
    names = set(names)
    for cell, kind in CELLS.items():
        layers = sum(name.rpartition(".")[2] == kind.weights[0] for name in names)
        every = list(parameter_shapes(cell, layers, 1, 1))
        for known in (every, [n for n in every if not n.endswith("b_hh")]):  # as books have it
            if names == set(known):
                return cell, layers, known
    return None
