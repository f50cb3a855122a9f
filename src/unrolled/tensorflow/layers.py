"""Recurrent language models of Keras' own layers."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import numpy as np
import tensorflow as tf

from unrolled.checks import checked
from unrolled.errors import SettingError
from unrolled.models.layers import (
    GATE_ORDERS,
    check_apart,
    join_gates,
    split_gates,
    with_prefix,
    without_prefix,
)
from unrolled.models.stacked import StackedRNNModel
from unrolled.tensorflow.module import Module


@checked
def recurrent_layer(cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1) -> Any:
    """Keras' own layer for a cell, `SimpleRNN`, `GRU` or `LSTM`; a list of them for several."""
    layers: dict[str, Any] = {
        "rnn": keras.layers.SimpleRNN,
        "gru": keras.layers.GRU,
        "lstm": keras.layers.LSTM,
    }
    made = [
        layers[cell](num_hiddens, return_sequences=True, return_state=True)
        for _ in range(num_layers)
    ]
    return made if num_layers > 1 else made[0]


CELLS = {
    keras.layers.SimpleRNNCell: "rnn",
    keras.layers.GRUCell: "gru",
    keras.layers.LSTMCell: "lstm",
}

GATES = GATE_ORDERS["keras"]


class RNNModel(StackedRNNModel, Module):
    def __init__(self, rnn_layer: Any, vocab_size: int, lr: float = 1.0) -> None:
        super().__init__()
        self.rnn, self.vocab_size, self.lr = _one_by_one(rnn_layer), vocab_size, lr
        self.cell, self.num_hiddens, self.num_directions = _checked(self._stack())
        self.num_layers = len(self._stack())
        size = vocab_size
        for layer in self._stack():
            layer.build((None, None, size))
            size = self.num_hiddens * self.num_directions
        self.linear = keras.layers.Dense(vocab_size)
        self.linear.build((None, size))
        self.built = True

    def _stack(self) -> list[Any]:
        return list(self.rnn) if isinstance(self.rnn, Sequence) else [self.rnn]

    def forward(self, inputs: tf.Tensor, state: Any = None) -> tuple[tf.Tensor, Any]:
        H = tf.one_hot(inputs, self.vocab_size)  # (B, T, V)
        if state is None:
            state = self.begin_state(inputs.shape[0])
        parts = state if self.cell == "lstm" else (state,)
        # of every layer and direction a tuple of all its parts, (B, H) each
        old = list(zip(*map(tf.unstack, parts), strict=True))
        new: list[Any] = []
        for layer in self._stack():
            before = old[len(new) : len(new) + self.num_directions]
            H, *after = layer(H, initial_state=list(chain(*before)))  # (B, T, directions * H)
            new += [after[i : i + len(parts)] for i in range(0, len(after), len(parts))]
        Y = self.linear(tf.transpose(H, (1, 0, 2)))  # (T, B, V)
        last = tuple(tf.stack(part) for part in zip(*new, strict=True))
        state = last if self.cell == "lstm" else last[0]
        return tf.reshape(Y, (-1, self.vocab_size)), state  # (T * B, V)

    def begin_state(self, batch_size: int = 1, device: Any = None, dtype: Any = None) -> Any:
        # dtype: books name it; it is float32
        with tf.device(device):
            zeros = tf.zeros((self.num_layers * self.num_directions, batch_size, self.num_hiddens))
        return (zeros, zeros) if self.cell == "lstm" else zeros

    def export_parameters(self) -> dict[str, Any]:
        own = check_apart(super(StackedRNNModel, self).export_parameters())
        values: dict[str, Any] = {}
        for prefix, names in self._parts():
            kernel_x, kernel_h, bias = (own[name] for name in names)
            # a GRU has a pair of biases (2, G * H), the others one
            bias_x, bias_h = bias if self.cell == "gru" else (bias, np.zeros_like(bias))
            split = split_gates(self.cell, GATES[self.cell], kernel_x, kernel_h, bias_x, bias_h)
            values |= with_prefix(prefix, split)
        return values | {"W_hq": own["linear.kernel"], "b_q": own["linear.bias"]}

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        native = {"linear.kernel": values["W_hq"], "linear.bias": values["b_q"]}
        for prefix, names in self._parts():
            own = without_prefix(prefix, values)
            kernel_x, kernel_h, bias_x, bias_h = join_gates(self.cell, GATES[self.cell], own)
            bias = np.stack([bias_x, bias_h]) if self.cell == "gru" else bias_x
            native |= dict(zip(names, (kernel_x, kernel_h, bias), strict=True))
        return native

    def native_names(self, layer: int, direction: int) -> list[str]:
        """Of Keras' two matrices and its bias."""
        first = 3 * (layer * self.num_directions + direction)
        return list(backend.parameters(self))[first : first + 3]


def _one_by_one(layer: Any) -> Any:
    """For an `RNN` of several cells, which go through a step together, one for each of them.

    They compute the same: a cell sees what the one below gave for the same step. Where the order
    of the steps, or what is kept between calls, is the whole layer's affair, it stays as it is.
    """
    cells = getattr(getattr(layer, "cell", None), "cells", None)
    if cells is None or layer.go_backwards or layer.stateful:
        return layer
    kept = ("return_sequences", "return_state", "unroll", "zero_output_for_mask")
    options = {name: getattr(layer, name) for name in kept}
    return [keras.layers.RNN(cell, **options) for cell in cells]


def _checked(stack: Sequence[Any]) -> tuple[str, int, int]:
    """Cell, hidden units and directions of a stack of Keras layers, all of one kind."""
    both = [isinstance(layer, keras.layers.Bidirectional) for layer in stack]
    layers = [layer.forward_layer if b else layer for layer, b in zip(stack, both, strict=True)]
    cells: list[Any] = [getattr(layer, "cell", None) for layer in layers]
    kinds = {(type(cell), getattr(cell, "units", 0)) for cell in cells}
    fits = all(
        type(cell) in CELLS
        and layer.return_sequences
        and layer.return_state
        and cell.use_bias
        and getattr(cell, "reset_after", True)
        for layer, cell in zip(layers, cells, strict=True)
    )
    if len(kinds) != 1 or len(set(both)) != 1 or not fits:
        raise SettingError(
            f"RNNModel got {', '.join(type(layer).__name__ for layer in stack) or 'no layer'}; "
            "it needs a SimpleRNN, GRU or LSTM of Keras, or an RNN of one or more such cells, "
            "several of one kind and size, or Bidirectional ones of one cell each, made with "
            "return_sequences=True, return_state=True, use_bias=True (a GRU with "
            "reset_after=True), or by recurrent_layer()"
        )
    return CELLS[type(cells[0])], cells[0].units, 2 if both[0] else 1
