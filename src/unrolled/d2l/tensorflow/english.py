"""Recurrent models of the English *Dive into Deep Learning*, for TensorFlow."""

from typing import Any

from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import tensorflow as tf

from unrolled.d2l import classifier, rnn_models, time_machine
from unrolled.tensorflow.layers import recurrent_layer
from unrolled.tensorflow.module import Module, VariablesModule, is_ours
from unrolled.tensorflow.training import DataModule


class TimeMachine(time_machine.TimeMachine, DataModule):
    pass


class Classifier(classifier.Classifier, Module):
    @property
    def runs_eagerly(self) -> bool:
        # what `rnn` is may be any function
        return super().runs_eagerly or not is_ours(getattr(self, "rnn", self))


class RNNScratch(rnn_models.RNNScratch, VariablesModule):
    pass


class RNNLMScratch(rnn_models.RNNLMScratch, Classifier):
    def declare(self, name: str, values: tf.Variable) -> None:
        setattr(self, name, values)


class RNN(rnn_models.RNN, Module):
    def __init__(self, num_hiddens: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rnn = recurrent_layer("rnn", 1, num_hiddens)  # its inputs are counted later

    def forward(self, inputs: tf.Tensor, H: Any = None) -> Any:
        # Keras' layers want the batch first
        outputs, *H = self.rnn(backend.xp.transpose(inputs), initial_state=H)
        return backend.xp.transpose(outputs), H[0] if len(H) == 1 else H


class RNNLM(rnn_models.RNNLM, RNNLMScratch):
    def init_params(self) -> None:
        self.linear = keras.layers.Dense(self.vocab_size)

    def output_layer(self, rnn_outputs: tf.Tensor) -> Any:
        return backend.xp.transpose(self.linear(rnn_outputs))  # (B, T, V)
