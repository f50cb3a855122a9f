"""Recurrent models of the English *Dive into Deep Learning*, for PyTorch."""

from typing import Any

import torch
from torch import nn

from unrolled.d2l import classifier, rnn_models, time_machine
from unrolled.torch.layers import recurrent_layer
from unrolled.torch.module import Module
from unrolled.torch.training import DataModule


class TimeMachine(time_machine.TimeMachine, DataModule):
    pass


class Classifier(classifier.Classifier, Module):
    pass


class RNNScratch(rnn_models.RNNScratch, Module):
    pass


class RNNLMScratch(rnn_models.RNNLMScratch, Classifier):
    pass


class RNN(rnn_models.RNN, Module):
    def __init__(self, num_inputs: int, num_hiddens: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rnn = recurrent_layer("rnn", num_inputs, num_hiddens)

    def forward(self, inputs: torch.Tensor, H: Any = None) -> Any:
        return self.rnn(inputs, H)


class RNNLM(rnn_models.RNNLM, RNNLMScratch):
    def init_params(self) -> None:
        self.linear = nn.LazyLinear(self.vocab_size)

    def output_layer(self, rnn_outputs: torch.Tensor) -> Any:
        return self.linear(rnn_outputs).transpose(0, 1)  # (B, T, V)
