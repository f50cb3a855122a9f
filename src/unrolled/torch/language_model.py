"""Recurrent language models written out, on PyTorch's tensors."""

from typing import Any

import torch

from unrolled.models import language_model
from unrolled.torch.module import Module
from unrolled.torch.training import SGD


class RNNModelScratch(language_model.RNNModelScratch, Module):
    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        like = self.weights()[0]
        return tuple(part.to(like) for part in super().begin_state(batch_size, device))

    def one_hot(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = super().one_hot(ids).to(self.weights()[0])
        return rows

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), self.lr)
