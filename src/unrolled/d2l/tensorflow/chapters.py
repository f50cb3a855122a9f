"""Functions of older editions of *Dive into Deep Learning*, for TensorFlow: ``train_ch8``."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import tensorflow as tf

from unrolled.d2l import (
    names_from,
    recurrent_chapter,
    regression_chapter,
    sequence_loader,
    three_functions,
)
from unrolled.functional import updates
from unrolled.models.language_model import RecurrentNetwork
from unrolled.tensorflow.module import VariablesModule
from unrolled.tensorflow.training import SGD, SyntheticRegressionData, Trainer

_rnn, _gru, _lstm = (RecurrentNetwork(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.initial_parameters, _rnn.begin_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.initial_parameters, _gru.begin_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.initial_parameters, _lstm.begin_state, _lstm.forward


def without_device(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Give a function of two sizes a device to leave out, as the book does for TensorFlow."""
    if function is None or len(signature(function).parameters) != 2:
        return function
    return lambda first, second, device=None: function(first, second)


class RNNModelScratch(three_functions.RNNModelScratch, VariablesModule):
    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any = None,
        get_params: Any = None,
        init_state: Any = None,
        forward_fn: Any = None,
        lr: float = 1.0,
    ) -> None:
        if callable(device):  # the order that the books have for TensorFlow
            init_state, forward_fn, get_params, device = device, get_params, init_state, None
        functions = without_device(get_params), without_device(init_state), forward_fn
        super().__init__(vocab_size, num_hiddens, device, *functions, lr)

    @property
    def runs_eagerly(self) -> bool:
        """A function of a reader's own need not be one that TensorFlow can compile."""
        return super().runs_eagerly or not three_functions.takes_ids(self.forward_fn)

    def forward(self, X: Any, state: Any = None) -> Any:
        return super().forward(tf.convert_to_tensor(X), state)

    def begin_state(self, batch_size: int = 1, device: Any = None, dtype: Any = None) -> Any:
        return super().begin_state(batch_size, device)

    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)


class BookModel(recurrent_chapter.BookModel, VariablesModule):
    def __init__(self, net: Any, make_optimizer: Any, loss: Any = None) -> None:
        self.given_loss = loss
        if isinstance(loss, keras.losses.Loss):  # those take the targets first
            super().__init__(net, make_optimizer, lambda y_hat, y: loss(y, y_hat))
        else:
            super().__init__(net, make_optimizer, loss)

    @property
    def runs_eagerly(self) -> bool:
        return super().runs_eagerly or not self.is_ours


class Device(str):
    """The name of a device that is also the context of what is placed there.

    So that both ``tf.device(try_gpu())`` and ``with try_gpu():`` work, and
    ``try_gpu()._device_name``, as programs of the books have it.
    """

    __slots__ = ("_context",)

    @property
    def _device_name(self) -> str:
        return str(self)

    def __enter__(self) -> "Device":
        self._context = tf.device(str(self))
        self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._context.__exit__(*error)


class SeqDataLoader(sequence_loader.SeqDataLoader):
    backend: ClassVar[Backend] = backend


class EpochTrainer(Trainer):
    """Compiles once for a model, however often it is fitted."""

    compiled_for: Any = None

    def compile_functions(self) -> None:
        if self.compiled_for is not self.model:
            super().compile_functions()
            self.compiled_for = self.model


class Kept:
    """A trainer with its model, kept with the net; copies of the net have none."""

    def __init__(self, trainer: Any = None, model: Any = None) -> None:
        self.trainer, self.model = trainer, model

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, ()


class RecurrentChapter(recurrent_chapter.RecurrentChapter):
    def trainer_of(self, model: BookModel) -> tuple[Any, BookModel]:
        """Those of the net's last epoch, so that a reader's loop of epochs compiles once."""
        if model.runs_eagerly:
            return super().trainer_of(model)
        kept = getattr(model.net, "_kept", None)
        if kept is None or kept.model is None or kept.model.given_loss is not model.given_loss:
            kept = model.net._kept = Kept(*super().trainer_of(model))
        kept.model.make_optimizer = model.make_optimizer
        return kept.trainer, kept.model


_chapter = RecurrentChapter(
    backend, EpochTrainer, lambda net, lr: SGD(lr), BookModel, SeqDataLoader
)

_regression = regression_chapter.RegressionChapter(backend, SyntheticRegressionData)
__getattr__ = names_from(_chapter, _regression)


def grad_clipping(gradients: Sequence[Any], theta: float) -> list[Any]:
    """The gradients, scaled so that their global norm is at most theta."""
    clipped, _ = updates.clip_by_global_norm(
        backend.xp, {str(i): g for i, g in enumerate(gradients)}, theta
    )
    return list(clipped.values())


def sgd(params: Sequence[Any], grads: Sequence[Any], lr: float, batch_size: int) -> None:
    """Minibatch stochastic gradient descent, in place.

    Args:
        params: variables to update.
        grads: their gradients.
        lr: learning rate.
        batch_size: what gradients are divided by: of a summed loss the examples, of a mean 1.
    """
    SGD(lr / batch_size).apply_gradients(zip(grads, params, strict=True))


def try_gpu(i: int = 0) -> Device:
    """The i-th GPU if there is one, else the CPU."""
    return Device(_chapter.try_gpu(i))
