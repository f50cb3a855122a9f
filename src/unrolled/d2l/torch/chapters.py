"""Functions of older editions of *Dive into Deep Learning*, for PyTorch: ``train_ch8``."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch

from unrolled.backends import Backend
from unrolled.backends import torch as backend
from unrolled.d2l import (
    names_from,
    recurrent_chapter,
    regression_chapter,
    sequence_loader,
    three_functions,
)
from unrolled.models.language_model import RecurrentNetwork
from unrolled.torch.module import Module
from unrolled.torch.training import SGD, SyntheticRegressionData, Trainer

_rnn, _gru, _lstm = (RecurrentNetwork(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.initial_parameters, _rnn.begin_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.initial_parameters, _gru.begin_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.initial_parameters, _lstm.begin_state, _lstm.forward


class RNNModelScratch(three_functions.RNNModelScratch, Module):
    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        like = self.weights()[0]
        return tuple(part.to(like) for part in super().begin_state(batch_size, device))

    def one_hot(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = super().one_hot(ids).to(self.weights()[0])
        return rows

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), self.lr)


class BookModel(recurrent_chapter.BookModel, Module):
    pass


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


@torch.no_grad()
def sgd(params: Iterable[torch.Tensor], lr: float, batch_size: int) -> None:
    """Minibatch stochastic gradient descent, in place; the gradients are zero afterwards.

    Args:
        params: tensors to update.
        lr: learning rate.
        batch_size: what gradients are divided by: of a summed loss the examples, of a mean 1.
    """
    optimizer = SGD(params, lr / batch_size)
    optimizer.step()
    optimizer.zero_grad()
