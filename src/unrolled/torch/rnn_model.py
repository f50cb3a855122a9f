"""``RNNModel``: a language model around PyTorch's `nn.RNN` or its kin, and `recurrent_layer`."""

from typing import Any

import torch
from torch import nn

from unrolled.backends import torch as backend
from unrolled.checks import checked
from unrolled.errors import ParameterError, SettingError
from unrolled.models.layer_options import check_dropout, check_layer, option_label
from unrolled.models.rnn_model import StackedRNNModel
from unrolled.models.weights import NO_COUNTERPART
from unrolled.torch.module import Module


@checked
def recurrent_layer(
    cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1
) -> nn.RNNBase:
    """PyTorch's own layer for a cell: `nn.RNN`, `nn.GRU` or `nn.LSTM`."""
    layers: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    layer: nn.RNNBase = layers[cell](num_inputs, num_hiddens, num_layers)
    return layer


KNOWN = {"training", "nonlinearity", "mode", "input_size", "hidden_size", "num_layers"} | {
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
}
"""Attributes of a layer that this file deals with."""


class RNNModel(StackedRNNModel, Module):
    def __init__(self, rnn_layer: nn.RNNBase, vocab_size: int, lr: float = 1.0) -> None:
        super().__init__()
        if not isinstance(rnn_layer, nn.RNNBase):
            raise SettingError(
                f"RNNModel got a {type(rnn_layer).__name__}; it needs an nn.RNN, nn.GRU or nn.LSTM"
            )
        if rnn_layer.batch_first or rnn_layer.input_size != vocab_size:
            raise SettingError(
                f"the layer has input_size={rnn_layer.input_size} and batch_first="
                f"{rnn_layer.batch_first}; RNNModel feeds it one-hot (T, B, {vocab_size}): "
                f"make it with input_size={vocab_size} and batch_first=False"
            )
        self.rnn, self.vocab_size, self.lr = rnn_layer, vocab_size, lr
        self.cell = rnn_layer.mode.partition("_")[0].lower()
        self.num_hiddens, self.num_layers = rnn_layer.hidden_size, rnn_layer.num_layers
        self.num_directions = 2 if rnn_layer.bidirectional else 1
        size = rnn_layer.proj_size or rnn_layer.hidden_size
        self.linear = nn.Linear(size * self.num_directions, vocab_size)

    def forward(self, inputs: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        X = backend.xp.one_hot(inputs.T, self.vocab_size).to(self.linear.weight)  # (T, B, V)
        Y, state = self.rnn(X, state)  # (T, B, directions * H)
        return self.linear(Y.reshape(-1, Y.shape[-1])), state  # (T * B, V)

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        layer, like = self.rnn, self.linear.weight
        count = layer.num_layers * self.num_directions
        zeros = like.new_zeros(count, batch_size, layer.proj_size or layer.hidden_size)
        if isinstance(layer, nn.LSTM):
            return zeros, like.new_zeros(count, batch_size, layer.hidden_size)
        return zeros

    def native_names(self, layer: int, direction: int) -> list[str]:
        suffix = f"l{layer}" + ("_reverse" if direction else "")
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [f"rnn.{kind}_{suffix}" for kind in kinds[: 4 if self.rnn.bias else 2]]

    def option_label(self) -> str:
        layer = self.rnn
        check_layer(layer, (nn.RNN, nn.GRU, nn.LSTM))
        check_layer(self.linear, (nn.Linear,))
        if layer.proj_size:
            raise ParameterError(
                f"the layer has proj_size={layer.proj_size}, which {NO_COUNTERPART}"
            )
        if layer.num_layers > 1:  # the last one drops nothing
            check_dropout({"dropout": layer.dropout}, layer.training, "call model.eval()")
        kind: Any = type(layer)
        usual = vars(kind(1, 1, device="meta"))  # there no random numbers are drawn
        options = {
            name: value
            for name, value in vars(layer).items()
            if name in usual and name[0] != "_" and name not in KNOWN and value != usual[name]
        }
        if isinstance(layer, nn.RNN):
            options["nonlinearity"] = layer.mode.removeprefix("RNN_").lower()
        return option_label(layer, options)
