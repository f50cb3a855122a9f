"""``LanguageModel`` for PyTorch; the computation is in `unrolled.models.language_model`."""

from typing import Any

import torch

from unrolled.models import language_model
from unrolled.torch.module import Module
from unrolled.torch.training import SGD


class LanguageModel(language_model.LanguageModel, Module):
    def begin_state(self, batch_size: int = 1, device: Any = None) -> tuple[torch.Tensor, ...]:
        like = self.weights()[0]
        return tuple(part.to(like) for part in super().begin_state(batch_size, device))

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), self.lr)
