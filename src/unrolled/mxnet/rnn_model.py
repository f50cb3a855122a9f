"""``RNNModel``: a language model around one of Gluon's layers, and `recurrent_layer`."""

from functools import partial
from typing import Any

import mxnet as mx
from mxnet import autograd, gluon

from unrolled.backends import mxnet as backend
from unrolled.checks import checked
from unrolled.errors import SettingError
from unrolled.models.layer_options import check_dropout, check_layer, option_label
from unrolled.models.rnn_model import StackedRNNModel
from unrolled.mxnet.module import Module


@checked
def recurrent_layer(cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1) -> Any:
    """Gluon's own layer for a cell, initialized: `rnn.RNN` (tanh), `rnn.GRU`, `rnn.LSTM`."""
    rnn = partial(gluon.rnn.RNN, activation="tanh")
    layers: dict[str, Any] = {"rnn": rnn, "gru": gluon.rnn.GRU, "lstm": gluon.rnn.LSTM}
    layer = layers[cell](num_hiddens, num_layers, input_size=num_inputs)
    layer.initialize()
    return layer


LAYERS: tuple[Any, ...] = (gluon.rnn.RNN, gluon.rnn.GRU, gluon.rnn.LSTM)

CHANGING = {"state_clip_min": None, "state_clip_max": None, "state_clip_nan": False}
"""Options of an LSTM that change what it computes, and their defaults (MXNet gets no new ones)."""


class RNNModel(StackedRNNModel, Module):
    def __init__(self, rnn_layer: Any, vocab_size: int, lr: float = 1.0) -> None:
        super().__init__()
        if not isinstance(rnn_layer, LAYERS):
            raise SettingError(
                f"RNNModel got a {type(rnn_layer).__name__}; it needs an rnn.RNN, rnn.GRU or "
                "rnn.LSTM of Gluon"
            )
        layout, size = rnn_layer._layout, rnn_layer._input_size
        if layout != "TNC" or size not in (0, vocab_size) or rnn_layer._projection_size:
            raise SettingError(
                f"the layer has input_size={size}, layout={layout!r} and projection_size="
                f"{rnn_layer._projection_size}; RNNModel feeds it one-hot (T, B, {vocab_size}): "
                f"make it with input_size={vocab_size}, layout='TNC' and no projection"
            )
        self.rnn, self.vocab_size, self.lr = rnn_layer, vocab_size, lr
        self.cell = rnn_layer._mode.partition("_")[0]
        self.num_hiddens, self.num_layers = rnn_layer._hidden_size, rnn_layer._num_layers
        self.num_directions = rnn_layer._dir
        self.linear = gluon.nn.Dense(vocab_size, in_units=self.num_hiddens * self.num_directions)
        device = backend.ensure_initialized(rnn_layer)
        self.linear.initialize(ctx=device)
        with autograd.pause():  # a layer made without input_size learns it here
            rnn_layer(mx.np.zeros((1, 1, vocab_size), ctx=device))

    def forward(self, inputs: Any, state: Any = None) -> tuple[Any, Any]:
        X = backend.xp.one_hot(inputs.T, self.vocab_size)  # (T, B, V)
        if state is None:
            state = self.begin_state(inputs.shape[0])
        parts = list(state) if self.cell == "lstm" else [state]
        Y, parts = self.rnn(X, parts)  # (T, B, directions * H)
        state = tuple(parts) if self.cell == "lstm" else parts[0]
        return self.linear(Y.reshape(-1, Y.shape[-1])), state  # (T * B, V)

    def begin_state(self, batch_size: int = 1, device: Any = None, ctx: Any = None) -> Any:
        parts = self.rnn.begin_state(batch_size, ctx=self.linear.weight.list_ctx()[0])
        return tuple(parts) if self.cell == "lstm" else parts[0]

    def native_names(self, layer: int, direction: int) -> list[str]:
        kinds = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
        return [f"rnn.{'lr'[direction]}{layer}_{kind}" for kind in kinds]

    def option_label(self) -> str:
        layer = self.rnn
        check_layer(layer, LAYERS)
        check_layer(self.linear, (gluon.nn.Dense,))
        if layer._num_layers > 1:  # the last one drops nothing
            check_dropout({"dropout": layer._dropout}, autograd.is_training(), "leave record()")
        clipping = {name: getattr(layer, f"_lstm_{name}") for name in CHANGING}
        options = {n: value for n, value in clipping.items() if value != CHANGING[n]}
        if self.cell == "rnn":
            options["activation"] = layer._mode.partition("_")[2]
        return option_label(layer, options)
