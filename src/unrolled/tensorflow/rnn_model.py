"""``RNNModel`` around Keras' recurrent layers, and its weights under our names."""

from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from itertools import chain
from typing import Any

from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import activations

from unrolled.backends.variables.tensorflow import variable_of
from unrolled.checks import checked
from unrolled.errors import ParameterError, SettingError
from unrolled.models.layer_options import (
    check_dropout,
    check_layer,
    check_no_bias,
    option_label,
)
from unrolled.models.rnn_model import RNNModel as _RNNModel
from unrolled.models.weights import (
    GATE_ORDERS,
    NO_COUNTERPART,
    check_apart,
    join_gates,
    layer_prefix,
    split_gates,
    with_prefix,
    without_prefix,
)
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

FUNCTIONS = {
    "tanh": (activations.tanh, tf.tanh, tf.nn.tanh),
    "sigmoid": (activations.sigmoid, tf.sigmoid, tf.nn.sigmoid),
    "relu": (activations.relu, tf.nn.relu),
    "hard_sigmoid": (activations.hard_sigmoid,),
    "linear": (activations.linear,),
    "elu": (activations.elu, tf.nn.elu),
    "silu": (activations.silu, tf.nn.silu),
    "softplus": (activations.softplus, tf.nn.softplus),
    "softsign": (activations.softsign, tf.nn.softsign),
}
"""Keras' and TensorFlow's functions by Keras' names."""

LAYERS = (
    keras.layers.SimpleRNN,
    keras.layers.GRU,
    keras.layers.LSTM,
    keras.layers.RNN,
    keras.layers.Bidirectional,
)

HARMLESS = {"name", "trainable", "dtype", "units", "use_bias", "seed", "implementation"} | {
    "unit_forget_bias",
    "dropout",
    "recurrent_dropout",
    "reset_after",
}
"""Options of a cell that change no function, or that are dealt with by themselves."""


def label_of(layer: Any, training: bool) -> str:
    """See `unrolled.models.layer_options.option_label`; raises for what has no counterpart."""
    cell = layer.cell
    check_layer(layer, LAYERS)
    check_layer(cell, CELLS)
    dropped = {name: getattr(cell, name) for name in ("dropout", "recurrent_dropout")}
    check_dropout(dropped, training, "set model.training = False")
    options = {
        name: getattr(cell, name, given.default)
        for name, given in signature(type(cell)).parameters.items()
        if name not in HARMLESS
        and not name.endswith(("_initializer", "_regularizer", "_constraint"))
        and getattr(cell, name, given.default) != given.default
    }
    return option_label(cell, options, FUNCTIONS)


class RNNModel(_RNNModel, Module):
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
        # frozen ones too: they belong to the function
        live = check_apart(backend.named_arrays(self, frozen=True))
        values: dict[str, Any] = {}
        for prefix, cell, names in self._parts():
            kernel_x, kernel_h, *biases = (backend.to_numpy(live[name]) for name in names)
            zeros = np.zeros_like(kernel_x[0])
            # a GRU has a pair of biases (2, G * H) if it resets after the product, the others one
            bias = biases[0] if biases else zeros
            bias_x, bias_h = bias if bias.ndim == 2 else (bias, zeros)
            split = split_gates(self.cell, GATES[self.cell], kernel_x, kernel_h, bias_x, bias_h)
            if _resets_before(cell):
                del split["b_hh"]
            values |= with_prefix(prefix, split)
        kernel, bias = self._names_of(self.linear, "kernel", "bias")
        return values | {
            "W_hq": backend.to_numpy(live[kernel]),
            "b_q": backend.to_numpy(live[bias]),
        }

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        kernel, bias = self._names_of(self.linear, "kernel", "bias")
        native = {kernel: values["W_hq"], bias: values["b_q"]}
        for prefix, cell, names in self._parts():
            own = without_prefix(prefix, values)
            if _resets_before(cell):
                own["b_hh"] = np.zeros_like(own["b_h"])
            if not cell.use_bias:
                check_no_bias(self.cell, own, "use_bias")
            kernel_x, kernel_h, bias_x, bias_h = join_gates(self.cell, GATES[self.cell], own)
            after = self.cell == "gru" and not _resets_before(cell)
            biases = np.stack([bias_x, bias_h]) if after else bias_x
            native |= dict(zip(names, (kernel_x, kernel_h, biases), strict=False))
        frozen = ", ".join(sorted(native.keys() - backend.named_arrays(self).keys()))
        if frozen:
            raise ParameterError(
                f"{frozen} cannot take values: it is frozen. Set trainable=True, and freeze it "
                "again afterwards"
            )
        return native

    def _parts(self) -> Iterator[tuple[str, Any, list[str]]]:
        """Of every layer and direction: our prefix, Keras' cell, and the names of its arrays."""
        check_layer(self.linear, (keras.layers.Dense,))
        if self.linear.activation is not activations.linear:
            raise ParameterError(f"the linear layer has an activation, which {NO_COUNTERPART}")
        for number, layer in enumerate(self._stack()):
            check_layer(layer, LAYERS)
            for direction, part in enumerate(_directions(layer)):
                prefix = layer_prefix(number, self.num_layers, direction, self.num_directions)
                cell = part.cell
                label = label_of(part, self.training)
                bias = ["bias"] if cell.use_bias else []
                own = self._names_of(cell, "kernel", "recurrent_kernel", *bias)
                yield prefix + label, cell, own

    def _names_of(self, layer: Any, *kinds: str) -> list[str]:
        """The names of a layer's arrays among the parameters of this model, frozen ones too."""
        places = backend.named_arrays(self, frozen=True)
        names = {id(variable): name for name, variable in places.items()}
        found = {kind: names.get(id(variable_of(getattr(layer, kind)))) for kind in kinds}
        missing = ", ".join(kind for kind, name in found.items() if name is None)
        if missing:
            raise ParameterError(
                f"the {missing} of {layer.name} is none of the model's parameters, but computed "
                f"from them, which {NO_COUNTERPART}. There are: {', '.join(places)}"
            )
        return [name for name in found.values() if name is not None]


def _directions(layer: Any) -> list[Any]:
    """The layers of one direction each that a layer is made of."""
    both = isinstance(layer, keras.layers.Bidirectional)
    return [layer.forward_layer, layer.backward_layer] if both else [layer]


def _resets_before(cell: Any) -> bool:
    """Whether it is a GRU that multiplies by the reset gate before the product."""
    return not getattr(cell, "reset_after", True)


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
    both = {isinstance(layer, keras.layers.Bidirectional) for layer in stack}
    layers = [part for layer in stack for part in _directions(layer)]
    cells: list[Any] = [getattr(layer, "cell", None) for layer in layers]
    kinds = {(type(cell), getattr(cell, "units", 0)) for cell in cells}
    needed = {"return_sequences": True, "return_state": True, "stateful": False}
    needed |= {} if True in both else {"go_backwards": False}
    wrong = [
        f"{type(layer).__name__} with {option}={getattr(layer, option)}"
        for layer in layers
        for option, value in needed.items()
        if getattr(layer, option, value) != value
    ]
    merged = {layer.merge_mode for layer in stack if hasattr(layer, "merge_mode")} - {"concat"}
    wrong += [f"Bidirectional with merge_mode={mode}" for mode in merged]
    if len(kinds) != 1 or len(both) != 1 or type(cells[0]) not in CELLS:
        wrong = wrong or [type(layer).__name__ for layer in stack] or ["no layer"]
    if wrong:
        raise SettingError(
            f"RNNModel got {', '.join(wrong)}; it needs a SimpleRNN, GRU or LSTM of Keras, or an "
            "RNN of one or more such cells, several of one kind and size, or Bidirectional ones of "
            "one cell each with merge_mode='concat', made with return_sequences=True, "
            "return_state=True, and without stateful and go_backwards, or by recurrent_layer()"
        )
    return CELLS[type(cells[0])], cells[0].units, 2 if True in both else 1
