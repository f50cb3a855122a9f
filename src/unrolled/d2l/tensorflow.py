"""*Dive into Deep Learning* on TensorFlow: ``from unrolled.d2l import tensorflow as d2l``."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import tensorflow as _backend  # first: it keeps the import quiet

# isort: split
import keras
import tensorflow as tf

from unrolled.d2l import chapters, find_in, rnn_models, text, three_functions
from unrolled.d2l.text import *
from unrolled.d2l.three_functions import *
from unrolled.d2l.tools import *
from unrolled.functional import updates
from unrolled.models.language_model import RecurrentNetwork
from unrolled.public_names import names_of_d2l
from unrolled.tensorflow import *
from unrolled.tensorflow.module import Module as Module
from unrolled.tensorflow.module import VariablesModule, is_ours
from unrolled.tensorflow.rnn_model import recurrent_layer as recurrent_layer
from unrolled.tensorflow.training import SGD as SGD
from unrolled.tensorflow.training import DataModule as DataModule
from unrolled.tensorflow.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.tensorflow.training import Trainer as Trainer

backend = _backend
arange, ones, zeros, tensor = tf.range, tf.ones, tf.zeros, tf.constant
normal = tf.random.normal
exp, sin, tanh, sigmoid = tf.exp, tf.sin, tf.tanh, tf.sigmoid
matmul, concat, stack = tf.matmul, tf.concat, tf.stack
reduce_mean, argmax = tf.reduce_mean, tf.argmax
reshape, transpose, swapaxes = tf.reshape, tf.transpose, tf.experimental.numpy.swapaxes
float32, int32, int64 = tf.float32, tf.int32, tf.int64
numpy, to = backend.to_numpy, backend.to_device


def randn(*shape: int) -> tf.Tensor:
    """Draws from ``N(0, 1)``."""
    return tf.random.normal(shape)


def size(x: tf.Tensor) -> int:
    """How many numbers there are."""
    return int(tf.size(x))


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
        return super().runs_eagerly or not three_functions.is_ours(self.forward_fn)

    def forward(self, X: Any, state: Any = None) -> Any:
        return super().forward(tf.convert_to_tensor(X), state)

    def begin_state(self, batch_size: int = 1, device: Any = None, dtype: Any = None) -> Any:
        return super().begin_state(batch_size, device)

    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)


class BookModel(chapters.BookModel, VariablesModule):
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


class SeqDataLoader(text.SeqDataLoader):
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


class Chapters(chapters.Chapters):
    def trainer_of(self, model: BookModel) -> tuple[Any, BookModel]:
        """Those of the net's last epoch, so that a reader's loop of epochs compiles once."""
        if model.runs_eagerly:
            return super().trainer_of(model)
        kept = getattr(model.net, "_kept", None)
        if kept is None or kept.model is None or kept.model.given_loss is not model.given_loss:
            kept = model.net._kept = Kept(*super().trainer_of(model))
        kept.model.make_optimizer = model.make_optimizer
        return kept.trainer, kept.model


class TimeMachine(text.TimeMachine, DataModule):
    pass


class Classifier(rnn_models.Classifier, Module):
    @property
    def runs_eagerly(self) -> bool:
        # what `rnn` is may be any function
        return super().runs_eagerly or not is_ours(getattr(self, "rnn", self))


class RNNScratch(rnn_models.RNNScratch, VariablesModule):
    pass


class RNNLMScratch(rnn_models.RNNLMScratch, Classifier):
    def declare(self, name: str, values: tf.Variable) -> None:
        setattr(self, name, values)


class RNN(rnn_models.RNN, Module):
    def __init__(self, num_hiddens: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rnn = recurrent_layer("rnn", 1, num_hiddens)  # its inputs are counted later

    def forward(self, inputs: tf.Tensor, H: Any = None) -> Any:
        # Keras' layers want the batch first
        outputs, *H = self.rnn(backend.xp.transpose(inputs), initial_state=H)
        return backend.xp.transpose(outputs), H[0] if len(H) == 1 else H


class RNNLM(rnn_models.RNNLM, RNNLMScratch):
    def init_params(self) -> None:
        self.linear = keras.layers.Dense(self.vocab_size)

    def output_layer(self, rnn_outputs: tf.Tensor) -> Any:
        return backend.xp.transpose(self.linear(rnn_outputs))  # (B, T, V)


_functions = Chapters(
    backend,
    EpochTrainer,
    lambda net, lr: SGD(lr),
    BookModel,
    SeqDataLoader,
    SyntheticRegressionData,
)


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
    return Device(_functions.try_gpu(i))


__all__ = list(names_of_d2l("tensorflow"))
__getattr__ = find_in(_functions, __name__)
