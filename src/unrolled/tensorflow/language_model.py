"""Recurrent language models written out, on TensorFlow's variables."""

from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split

from unrolled.models import language_model
from unrolled.models.language_model import Scratch
from unrolled.tensorflow.module import VariablesModule
from unrolled.tensorflow.training import SGD

_rnn, _gru, _lstm = (Scratch(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.get_params, _rnn.init_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.get_params, _gru.init_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.get_params, _lstm.init_state, _lstm.forward


class RNNModelScratch(language_model.RNNModelScratch, VariablesModule):
    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)
