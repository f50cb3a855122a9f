"""Recurrent language models written out, on PyTorch's tensors."""

from typing import Any

import torch

from unrolled.backends import torch as backend
from unrolled.models import language_model
from unrolled.models.language_model import Scratch
from unrolled.torch.module import Module
from unrolled.torch.training import SGD

_rnn, _gru, _lstm = (Scratch(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.get_params, _rnn.init_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.get_params, _gru.init_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.get_params, _lstm.init_state, _lstm.forward


class RNNModelScratch(language_model.RNNModelScratch, Module):
    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        like = self.weights()[0]
        return tuple(part.to(like) for part in super().begin_state(batch_size, device))

    def one_hot(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = super().one_hot(ids).to(self.weights()[0])
        return rows

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), self.lr)
