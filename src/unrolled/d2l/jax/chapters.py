"""Functions of older editions of *Dive into Deep Learning*, for JAX: ``train_ch8``."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import jax as backend
from unrolled.d2l import (
    names_from,
    recurrent_chapter,
    regression_chapter,
    sequence_loader,
    three_functions,
)
from unrolled.jax.language_model import DrawnModule, IdsModule
from unrolled.jax.training import SGD, SyntheticRegressionData, Trainer
from unrolled.models.language_model import RecurrentNetwork
from unrolled.models.layers import with_prefix

_rnn, _gru, _lstm = (RecurrentNetwork(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.initial_parameters, _rnn.begin_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.initial_parameters, _gru.begin_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.initial_parameters, _lstm.begin_state, _lstm.forward


class RNNModelScratch(three_functions.RNNModelScratch, DrawnModule):  # type: ignore[misc]  # two forms of loss
    vocab_size: int
    num_hiddens: int
    device: Any = None
    get_params: Callable[..., Any] = get_params
    init_state: Callable[..., Any] = init_rnn_state
    forward_fn: Callable[..., Any] = rnn
    lr: float = 1.0

    def draw(self) -> Mapping[str, Any]:
        params = self.get_params(self.vocab_size, self.num_hiddens, self.device)
        return three_functions.by_name(params)

    @property
    def _names(self) -> list[str]:  # type: ignore[override]  # read-only, as all of a module
        return [name for name, _ in self.drawn]  # JAX may have sorted those of the module


class BookModel(recurrent_chapter.BookModel, IdsModule):  # type: ignore[misc]  # two forms of loss
    net: Any
    make_optimizer: Any
    loss_fn: Any = None


def _book_model(net: Any, make_optimizer: Any, loss: Any = None) -> Any:
    """The net under the trainer, with the values that it has if it is bound."""
    if net.scope is None:
        return BookModel(net, make_optimizer, loss)
    model = BookModel(net.unbind()[0], make_optimizer, loss)
    return backend.bind(model, with_prefix("net.", backend.parameters(net)))


class SeqDataLoader(sequence_loader.SeqDataLoader):
    backend: ClassVar[Backend] = backend


_chapter = recurrent_chapter.RecurrentChapter(
    backend, Trainer, lambda net, lr: SGD(lr), _book_model, SeqDataLoader
)

_regression = regression_chapter.RegressionChapter(backend, SyntheticRegressionData)
__getattr__ = names_from(_chapter, _regression)
