"""The books' names for the recurrent chapter, on TensorFlow."""

from collections.abc import Sequence
from typing import Any

from unrolled.backends import tensorflow as backend
from unrolled.books import recurrent as books
from unrolled.functional import updates
from unrolled.tensorflow.module import VariablesModule
from unrolled.tensorflow.training import SGD, Trainer


class BookModel(books.BookModel, VariablesModule):
    pass


_chapter = books.RecurrentChapter(backend, Trainer, lambda net, lr: SGD(lr), BookModel)
try_gpu = _chapter.try_gpu
load_data_time_machine = _chapter.load_data_time_machine
predict_ch8 = _chapter.predict_ch8
train_epoch_ch8 = _chapter.train_epoch_ch8
train_ch8 = _chapter.train_ch8


def grad_clipping(gradients: Sequence[Any], theta: float) -> list[Any]:
    """The gradients, scaled so that their global norm is at most theta."""
    clipped, _ = updates.clip_by_global_norm(
        backend.xp, {str(i): g for i, g in enumerate(gradients)}, theta
    )
    return list(clipped.values())
