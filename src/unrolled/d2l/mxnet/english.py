"""Recurrent models of the English *Dive into Deep Learning*, for MXNet."""

from typing import Any

from mxnet import gluon

from unrolled.d2l import classifier, rnn_models, time_machine
from unrolled.mxnet.module import ArraysModule, Module
from unrolled.mxnet.training import DataModule


class TimeMachine(time_machine.TimeMachine, DataModule):
    pass


class Classifier(classifier.Classifier, Module):
    pass


class RNNScratch(rnn_models.RNNScratch, ArraysModule):
    pass


class RNNLMScratch(rnn_models.RNNLMScratch, Classifier, ArraysModule):
    def init_params(self) -> None:
        super().init_params()
        for array in self.get_scratch_params():  # the book's layers leave this to their model
            array.attach_grad()


class RNN(rnn_models.RNN, Module):
    def __init__(self, num_hiddens: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rnn = gluon.rnn.RNN(num_hiddens, activation="tanh")  # without values: RNNLM sees to it

    def forward(self, inputs: Any, H: Any = None) -> Any:
        if H is None:
            (H,) = self.rnn.begin_state(inputs.shape[1], ctx=inputs.ctx)
        outputs, (H,) = self.rnn(inputs, (H,))
        return outputs, H


class RNNLM(rnn_models.RNNLM, RNNLMScratch):
    def init_params(self) -> None:
        self.linear = gluon.nn.Dense(self.vocab_size, flatten=False)
        self.initialize()

    def output_layer(self, rnn_outputs: Any) -> Any:
        return self.linear(rnn_outputs).swapaxes(0, 1)  # (B, T, V)
