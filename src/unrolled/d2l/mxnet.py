"""*Dive into Deep Learning* on MXNet: ``from unrolled.d2l import mxnet as d2l``."""

from collections.abc import Iterable
from typing import Any, ClassVar

import mxnet as mx
from mxnet import gluon

from unrolled.backends import Backend
from unrolled.backends import mxnet as _backend
from unrolled.d2l import chapters, find_in, rnn_models, text, three_functions
from unrolled.d2l.text import *
from unrolled.d2l.three_functions import *
from unrolled.d2l.tools import *
from unrolled.models.language_model import RecurrentNetwork
from unrolled.mxnet import *
from unrolled.mxnet.language_model import OnOneDevice
from unrolled.mxnet.module import ArraysModule
from unrolled.mxnet.module import Module as Module
from unrolled.mxnet.training import SGD as SGD
from unrolled.mxnet.training import DataModule as DataModule
from unrolled.mxnet.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.mxnet.training import Trainer as Trainer
from unrolled.public_names import names_of_d2l

backend = _backend
arange, ones, zeros, tensor = mx.np.arange, mx.np.ones, mx.np.zeros, mx.np.array
normal, randn = mx.np.random.normal, mx.np.random.randn
exp, sin, tanh, sigmoid = mx.np.exp, mx.np.sin, mx.np.tanh, mx.npx.sigmoid
matmul, concat, stack = mx.np.dot, mx.np.concatenate, mx.np.stack
reduce_mean, argmax = mx.np.mean, mx.np.argmax
transpose, swapaxes = mx.np.transpose, mx.np.swapaxes
float32, int32, int64 = mx.np.float32, mx.np.int32, mx.np.int64
numpy, to = backend.to_numpy, backend.to_device


def reshape(x: Any, *shape: Any) -> Any:
    """``x.reshape(*shape)``."""
    return x.reshape(*shape)


def size(x: Any) -> int:
    """How many numbers there are."""
    return int(x.size)


_rnn, _gru, _lstm = (RecurrentNetwork(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.initial_parameters, _rnn.begin_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.initial_parameters, _gru.begin_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.initial_parameters, _lstm.begin_state, _lstm.forward


class RNNModelScratch(OnOneDevice, three_functions.RNNModelScratch, Module):
    params = mx.gluon.Block.params  # what Gluon lists; their arrays: weights()

    def begin_state(self, batch_size: int = 1, device: Any = None, ctx: Any = None) -> Any:
        return super().begin_state(batch_size, device or ctx)


class BookModel(chapters.BookModel, Module):
    def __init__(self, net: Any, *others: Any) -> None:
        if isinstance(net, mx.gluon.Block):
            backend.ensure_initialized(net, mx.init.Normal(0.01))  # as the books' loop does
        super().__init__(net, *others)


class SeqDataLoader(text.SeqDataLoader):
    backend: ClassVar[Backend] = backend


class TimeMachine(text.TimeMachine, DataModule):
    pass


class Classifier(rnn_models.Classifier, Module):
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


_functions = chapters.Chapters(
    backend,
    Trainer,
    lambda net, lr: SGD(chapters.parameters_of(backend, net).values(), lr),
    BookModel,
    SeqDataLoader,
    SyntheticRegressionData,
)


def sgd(params: Iterable[Any], lr: float, batch_size: int) -> None:
    """Minibatch stochastic gradient descent, in place.

    Args:
        params: arrays with a gradient attached.
        lr: learning rate.
        batch_size: what gradients are divided by: of a summed loss the examples, of a mean 1.
    """
    SGD(params, lr / batch_size).step()


__all__ = list(names_of_d2l("mxnet"))
__getattr__ = find_in(_functions, __name__)
