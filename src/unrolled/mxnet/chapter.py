"""The books' names for the recurrent chapter, on MXNet."""

from collections.abc import Iterable
from typing import Any, ClassVar

import mxnet as mx

from unrolled.backends import Backend
from unrolled.backends import mxnet as backend
from unrolled.books import recurrent as books
from unrolled.books import regression, sequences
from unrolled.mxnet.module import Module
from unrolled.mxnet.training import SGD, SyntheticRegressionData, Trainer


class BookModel(books.BookModel, Module):
    def __init__(self, net: Any, *others: Any) -> None:
        if isinstance(net, mx.gluon.Block):
            backend.ensure_initialized(net, mx.init.Normal(0.01))  # as the books' loop does
        super().__init__(net, *others)


class SeqDataLoader(sequences.SeqDataLoader):
    backend: ClassVar[Backend] = backend


_chapter = books.RecurrentChapter(
    backend,
    Trainer,
    lambda net, lr: SGD(books.parameters_of(backend, net).values(), lr),
    BookModel,
    SeqDataLoader,
)
try_gpu = _chapter.try_gpu
try_all_gpus = _chapter.try_all_gpus
num_gpus = _chapter.num_gpus
cpu = _chapter.cpu
gpu = _chapter.gpu
seq_data_iter_random = _chapter.seq_data_iter_random
seq_data_iter_sequential = _chapter.seq_data_iter_sequential
load_data_time_machine = _chapter.load_data_time_machine
predict_ch8 = _chapter.predict_ch8
grad_clipping = _chapter.grad_clipping
train_epoch_ch8 = _chapter.train_epoch_ch8
train_ch8 = _chapter.train_ch8

_regression = regression.RegressionChapter(backend, SyntheticRegressionData)
synthetic_data = _regression.synthetic_data
linreg = _regression.linreg
squared_loss = _regression.squared_loss
load_array = _regression.load_array
evaluate_loss = _regression.evaluate_loss


def sgd(params: Iterable[Any], lr: float, batch_size: int) -> None:
    """Minibatch stochastic gradient descent, in place.

    Args:
        params: arrays with a gradient attached.
        lr: learning rate.
        batch_size: what gradients are divided by: of a summed loss the examples, of a mean 1.
    """
    SGD(params, lr / batch_size).step()
