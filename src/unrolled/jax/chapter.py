"""The books' names for the recurrent chapter, on JAX."""

from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import jax as backend
from unrolled.books import recurrent as books
from unrolled.books import regression, sequences
from unrolled.jax.language_model import LanguageModel
from unrolled.jax.training import SGD, SyntheticRegressionData, Trainer
from unrolled.models.layers import with_prefix


class BookModel(books.BookModel, LanguageModel):  # type: ignore[misc]  # two forms of loss
    net: Any
    make_optimizer: Any
    loss_fn: Any = None


def _book_model(net: Any, make_optimizer: Any, loss: Any = None) -> Any:
    """The net under the trainer, with the values that it has if it is bound."""
    if net.scope is None:
        return BookModel(net, make_optimizer, loss)
    model = BookModel(net.unbind()[0], make_optimizer, loss)
    return backend.bind(model, with_prefix("net.", backend.parameters(net)))


class SeqDataLoader(sequences.SeqDataLoader):
    backend: ClassVar[Backend] = backend


_chapter = books.RecurrentChapter(
    backend, Trainer, lambda net, lr: SGD(lr), _book_model, SeqDataLoader
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
train_ch8 = _chapter.train_ch8

_regression = regression.RegressionChapter(backend, SyntheticRegressionData)
synthetic_data = _regression.synthetic_data
linreg = _regression.linreg
squared_loss = _regression.squared_loss
load_array = _regression.load_array
evaluate_loss = _regression.evaluate_loss
