"""*Dive into Deep Learning* on PyTorch: ``from unrolled.d2l import torch as d2l``."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import nn

from unrolled.backends import Backend
from unrolled.backends import torch as _backend
from unrolled.d2l import chapters, find_in, rnn_models, text, three_functions
from unrolled.d2l.text import *
from unrolled.d2l.three_functions import *
from unrolled.d2l.tools import *
from unrolled.models.language_model import RecurrentNetwork
from unrolled.public_names import names_of_d2l
from unrolled.torch import *
from unrolled.torch.module import Module as Module
from unrolled.torch.rnn_model import recurrent_layer as recurrent_layer
from unrolled.torch.training import SGD as SGD
from unrolled.torch.training import DataModule as DataModule
from unrolled.torch.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.torch.training import Trainer as Trainer

backend = _backend
arange, ones, zeros, tensor = torch.arange, torch.ones, torch.zeros, torch.tensor
normal, randn = torch.normal, torch.randn
exp, sin, tanh, sigmoid = torch.exp, torch.sin, torch.tanh, torch.sigmoid
matmul, concat, stack = torch.matmul, torch.cat, torch.stack
reduce_mean, argmax, size = torch.mean, torch.argmax, torch.numel
transpose, swapaxes = torch.t, torch.swapaxes
float32, int32, int64 = torch.float32, torch.int32, torch.int64
numpy = backend.to_numpy


def reshape(x: torch.Tensor, *shape: Any) -> torch.Tensor:
    """``x.reshape(*shape)``."""
    return x.reshape(*shape)


def to(x: torch.Tensor, *where: Any, **options: Any) -> torch.Tensor:
    """``x.to(*where, **options)``."""
    return x.to(*where, **options)


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


class BookModel(chapters.BookModel, Module):
    pass


class SeqDataLoader(text.SeqDataLoader):
    backend: ClassVar[Backend] = backend


class TimeMachine(text.TimeMachine, DataModule):
    pass


class Classifier(rnn_models.Classifier, Module):
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


_functions = chapters.Chapters(
    backend,
    Trainer,
    lambda net, lr: SGD(chapters.parameters_of(backend, net).values(), lr),
    BookModel,
    SeqDataLoader,
    SyntheticRegressionData,
)


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


__all__ = list(names_of_d2l("torch"))
__getattr__ = find_in(_functions, __name__)
