"""Functions of older editions of *Dive into Deep Learning*, for MXNet: ``train_ch8``."""

from collections.abc import Iterable
from typing import Any, ClassVar

import mxnet as mx

from unrolled.backends import Backend
from unrolled.backends import mxnet as backend
from unrolled.d2l import (
    names_from,
    recurrent_chapter,
    regression_chapter,
    sequence_loader,
    three_functions,
)
from unrolled.models.language_model import RecurrentNetwork
from unrolled.mxnet.module import Module
from unrolled.mxnet.training import SGD, SyntheticRegressionData, Trainer

_rnn, _gru, _lstm = (RecurrentNetwork(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.initial_parameters, _rnn.begin_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.initial_parameters, _gru.begin_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.initial_parameters, _lstm.begin_state, _lstm.forward


class RNNModelScratch(three_functions.RNNModelScratch, Module):
    params = mx.gluon.Block.params  # what Gluon lists; their arrays: weights()

    def begin_state(self, batch_size: int = 1, device: Any = None, ctx: Any = None) -> Any:
        state = super().begin_state(batch_size, device or ctx)
        return backend.to_device(state, self.weights()[0].ctx)

    def forward(self, X: Any, state: Any = None) -> Any:
        if len(X.shape) == 2:  # ids, which MXNet makes floats of where nobody says better
            X = X.astype("int64")
        return super().forward(X, state)

    def configure_optimizers(self) -> SGD:
        return SGD(backend.parameters(self).values(), self.lr)


class BookModel(recurrent_chapter.BookModel, Module):
    def __init__(self, net: Any, *others: Any) -> None:
        if isinstance(net, mx.gluon.Block):
            backend.ensure_initialized(net, mx.init.Normal(0.01))  # as the books' loop does
        super().__init__(net, *others)


class SeqDataLoader(sequence_loader.SeqDataLoader):
    backend: ClassVar[Backend] = backend


_chapter = recurrent_chapter.RecurrentChapter(
    backend,
    Trainer,
    lambda net, lr: SGD(recurrent_chapter.parameters_of(backend, net).values(), lr),
    BookModel,
    SeqDataLoader,
)

_regression = regression_chapter.RegressionChapter(backend, SyntheticRegressionData)
__getattr__ = names_from(_chapter, _regression)


def sgd(params: Iterable[Any], lr: float, batch_size: int) -> None:
    """Minibatch stochastic gradient descent, in place.

    Args:
        params: arrays with a gradient attached.
        lr: learning rate.
        batch_size: what gradients are divided by: of a summed loss the examples, of a mean 1.
    """
    SGD(params, lr / batch_size).step()
