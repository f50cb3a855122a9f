"""The books' names for the recurrent chapter, on MXNet."""

from unrolled.backends import mxnet as backend
from unrolled.books import recurrent as books
from unrolled.mxnet.module import Module
from unrolled.mxnet.training import SGD, Trainer


class BookModel(books.BookModel, Module):
    pass


_chapter = books.RecurrentChapter(
    backend, Trainer, lambda net, lr: SGD(backend.parameters(net).values(), lr), BookModel
)
try_gpu = _chapter.try_gpu
load_data_time_machine = _chapter.load_data_time_machine
predict_ch8 = _chapter.predict_ch8
grad_clipping = _chapter.grad_clipping
train_epoch_ch8 = _chapter.train_epoch_ch8
train_ch8 = _chapter.train_ch8
