"""Recurrent language models of PyTorch's own layers."""

from typing import Any

import torch
from torch import nn

from unrolled.backends import torch as backend
from unrolled.checks import checked
from unrolled.errors import SettingError
from unrolled.models.stacked import StackedRNNModel
from unrolled.torch.module import Module


@checked
def recurrent_layer(
    cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1
) -> nn.RNNBase:
    """PyTorch's own layer for a cell: `nn.RNN`, `nn.GRU` or `nn.LSTM`."""
    layers: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    layer: nn.RNNBase = layers[cell](num_inputs, num_hiddens, num_layers)
    return layer


class RNNModel(StackedRNNModel, Module):
    def __init__(self, rnn_layer: nn.RNNBase, vocab_size: int, lr: float = 1.0) -> None:
        super().__init__()
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
        return [f"rnn.{kind}_{suffix}" for kind in kinds]
