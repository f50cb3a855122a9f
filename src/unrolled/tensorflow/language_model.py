"""``LanguageModel`` for TensorFlow; the computation is in `unrolled.models.language_model`."""

from typing import Any

import tensorflow as tf

from unrolled.models import language_model
from unrolled.tensorflow.module import VariablesModule
from unrolled.tensorflow.training import SGD


class LanguageModel(language_model.LanguageModel, VariablesModule):
    def forward(self, X: Any, state: Any = None) -> Any:
        return super().forward(tf.convert_to_tensor(X), state)

    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)
