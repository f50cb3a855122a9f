"""unrolled on TensorFlow: ``from unrolled import tensorflow``.

Models written out in equations are `tf.Module`s that hold `tf.Variable`s; models of
Keras layers are `keras.Model`s. So TensorFlow's own tools work on them:
``trainable_variables``, `tf.GradientTape`, `keras.optimizers`, `tf.train.Checkpoint`.
What they compute is written once for all frameworks, in `unrolled.functional`,
`unrolled.training` and `unrolled.models`; here is only what is TensorFlow's own.

Example:
    >>> from unrolled import tensorflow
    >>> data = tensorflow.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = tensorflow.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> tensorflow.Trainer(max_epochs=3).fit(model, data)
    >>> 3.9 < float(model.b[0]) < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import numpy as np
import tensorflow as tf

from unrolled.books import recurrent as books
from unrolled.data import synthetic, text_data
from unrolled.data.text import load_corpus_time_machine, read_time_machine, tokenize
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError
from unrolled.functional import updates
from unrolled.models import language_model, linear_regression, native
from unrolled.models.language_model import Scratch
from unrolled.models.layers import join_gates, split_gates, with_prefix, without_prefix
from unrolled.models.stacked import StackedRNNModel
from unrolled.parameters import Parameters
from unrolled.training import board, data, hyperparameters, module, trainer

HyperParameters = hyperparameters.HyperParameters
add_to_class = hyperparameters.add_to_class
ProgressBoard = board.ProgressBoard


class _Shell(module.Module):
    backend: ClassVar[Backend] = backend
    training: bool = False
    lr: float

    def configure_optimizers(self) -> Any:
        """`keras.optimizers.SGD` at ``self.lr``."""
        return keras.optimizers.SGD(self.lr)


class Module(_Shell, keras.Model):  # type: ignore[misc]  # Keras is untyped
    """A `keras.Model`: write ``call`` as Keras has it, or ``forward``, or set ``net``.

    ``trainable_variables`` lists `tf.Variable`s kept as attributes too, which Keras
    itself leaves out.
    """

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__(plot_train_per_epoch, plot_valid_per_epoch)
        del self.loss  # Keras' own, None until compile(); it would hide the method

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return super().__call__(*inputs, **({"training": self.training} | options))

    @property
    def call(self) -> Callable[..., Any]:
        """``forward``, with its own arguments, by which Keras builds layers."""
        return self.forward

    @property
    def trainable_variables(self) -> list[Any]:
        listed: list[Any] = super().trainable_variables
        known = {id(v.value) for v in listed}
        return listed + [v for v in backend.parameters(self).values() if id(v) not in known]


class _Variables(_Shell, tf.Module):  # type: ignore[misc]
    """A `tf.Module`: its variables are its own, written out."""

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)

    @property
    def trainable_variables(self) -> tuple[Any, ...]:
        """In the order of declaration, where TensorFlow sorts by name."""
        return tuple(backend.parameters(self).values())


class DataModule(data.DataModule):
    backend: ClassVar[Backend] = backend


class Trainer(trainer.Trainer):
    backend: ClassVar[Backend] = backend

    def prepare_data(self, data: Any) -> None:
        super().prepare_data(data)
        self._loader = data.train_dataloader  # makes another one, so that none is used up

    def prepare_model(self, model: Any) -> None:
        if isinstance(model, _Shell) and isinstance(model, keras.Model) and not model.built:
            # Keras makes a layer's variables when it is first called
            model.loss_and_state(self.prepare_batch(next(iter(self._loader()))), None)
        super().prepare_model(model)


class SGD(HyperParameters):
    """Minibatch stochastic gradient descent: ``param -= lr * grad``.

    Args:
        lr: learning rate.

    Example:
        >>> import tensorflow as tf
        >>> w = tf.Variable([1.0])
        >>> with tf.GradientTape() as tape:
        ...     loss = tf.reduce_sum(3 * w)
        >>> SGD(lr=0.1).apply_gradients([(tape.gradient(loss, w), w)])
        >>> round(float(w[0]), 2)
        0.7
    """

    lr: float

    def __init__(self, lr: float) -> None:
        self.save_hyperparameters()

    def apply_gradients(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Move every variable against its gradient, given as ``(gradient, variable)``."""
        for gradient, variable in pairs:
            variable.assign(updates.sgd(variable, gradient, self.lr))


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, _Variables):
    def __init__(
        self, num_inputs: int, lr: float, sigma: float = 0.01, seed: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        values = backend.initialize(self.initial_values(num_inputs, sigma, seed))
        self.w, self.b = values["w"], values["b"]

    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)


class LinearRegression(linear_regression.LinearRegression, Module):
    def __init__(self, lr: float, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        normal = keras.initializers.RandomNormal(stddev=sigma)
        self.net = keras.layers.Dense(1, kernel_initializer=normal)

    def loss(self, y_hat: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return keras.losses.MeanSquaredError()(tf.reshape(y, y_hat.shape), y_hat)

    @property
    def w(self) -> Any:
        return self.net.kernel

    @property
    def b(self) -> Any:
        return self.net.bias


class NativeModel(native.NativeModel, Module):
    pass


def try_gpu(i: int = 0) -> str:
    """The name of the i-th GPU if there is one, else of the CPU."""
    gpus = backend.devices(i + 1)
    return gpus[i] if len(gpus) > i else "CPU:0"


_rnn, _gru, _lstm = (Scratch(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.get_params, _rnn.init_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.get_params, _gru.init_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.get_params, _lstm.init_state, _lstm.forward


class RNNModelScratch(language_model.RNNModelScratch, _Variables):
    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any = None,
        get_params: Callable[..., Any] = get_params,
        init_state: Callable[..., Any] = init_rnn_state,
        forward_fn: Callable[..., Any] = rnn,
        lr: float = 1.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_hiddens, self.lr = vocab_size, num_hiddens, lr
        self.init_state, self.forward_fn = init_state, forward_fn
        params = language_model.by_name(get_params(vocab_size, num_hiddens, device))
        self._names = list(params)
        for name, param in params.items():
            _register(self, name, param)

    @property
    def params(self) -> list[tf.Variable]:
        parameters = backend.parameters(self)
        return [parameters[name] for name in self._names]

    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)


def _register(module: tf.Module, dotted_name: str, variable: tf.Variable) -> None:
    """Place a variable so that its path of attributes is its dotted name."""
    *path, leaf = dotted_name.split(".")
    for part in path:
        if not hasattr(module, part):
            setattr(module, part, tf.Module())
        module = getattr(module, part)
    setattr(module, leaf, variable)


def recurrent_layer(cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1) -> Any:
    """Keras' own layer for a cell, `SimpleRNN`, `GRU` or `LSTM`; a list of them for several."""
    layers: dict[str, Any] = {
        "rnn": keras.layers.SimpleRNN,
        "gru": keras.layers.GRU,
        "lstm": keras.layers.LSTM,
    }
    made = [
        layers[cell](num_hiddens, return_sequences=True, return_state=True)
        for _ in range(num_layers)
    ]
    return made if num_layers > 1 else made[0]


CELLS = {keras.layers.SimpleRNN: "rnn", keras.layers.GRU: "gru", keras.layers.LSTM: "lstm"}

GATES = {"rnn": "h", "gru": "zrh", "lstm": "ifco"}
"""The order in which Keras' layers keep their gates."""


class RNNModel(StackedRNNModel, Module):
    def __init__(self, rnn_layer: Any, vocab_size: int, lr: float = 1.0) -> None:
        super().__init__()
        self.rnn, self.vocab_size, self.lr = rnn_layer, vocab_size, lr
        self.cell, self.num_hiddens, self.num_directions = _checked(self._stack())
        self.num_layers = len(self._stack())
        size = vocab_size
        for layer in self._stack():
            layer.build((None, None, size))
            size = self.num_hiddens * self.num_directions
        self.linear = keras.layers.Dense(vocab_size)
        self.linear.build((None, size))

    def _stack(self) -> list[Any]:
        return list(self.rnn) if isinstance(self.rnn, Sequence) else [self.rnn]

    def forward(self, inputs: tf.Tensor, state: Any = None) -> tuple[tf.Tensor, Any]:
        H = tf.one_hot(inputs, self.vocab_size)  # (B, T, V)
        if state is None:
            state = self.begin_state(inputs.shape[0])
        parts = state if self.cell == "lstm" else (state,)
        # of every layer and direction a tuple of all its parts, (B, H) each
        old = list(zip(*map(tf.unstack, parts), strict=True))
        new: list[Any] = []
        for layer in self._stack():
            before = old[len(new) : len(new) + self.num_directions]
            H, *after = layer(H, initial_state=list(chain(*before)))  # (B, T, directions * H)
            new += [after[i : i + len(parts)] for i in range(0, len(after), len(parts))]
        Y = self.linear(tf.transpose(H, (1, 0, 2)))  # (T, B, V)
        last = tuple(tf.stack(part) for part in zip(*new, strict=True))
        state = last if self.cell == "lstm" else last[0]
        return tf.reshape(Y, (-1, self.vocab_size)), state  # (T * B, V)

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        with tf.device(device):
            zeros = tf.zeros((self.num_layers * self.num_directions, batch_size, self.num_hiddens))
        return (zeros, zeros) if self.cell == "lstm" else zeros

    def export_parameters(self) -> dict[str, Any]:
        own = {name: backend.to_numpy(v) for name, v in backend.parameters(self).items()}
        values: dict[str, Any] = {}
        for prefix, names in self._parts():
            kernel_x, kernel_h, bias = (own[name] for name in names)
            # a GRU has a pair of biases (2, G * H), the others one
            bias_x, bias_h = bias if self.cell == "gru" else (bias, np.zeros_like(bias))
            split = split_gates(self.cell, GATES[self.cell], kernel_x, kernel_h, bias_x, bias_h)
            values |= with_prefix(prefix, split)
        return values | {"W_hq": own["linear.kernel"], "b_q": own["linear.bias"]}

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        native = {"linear.kernel": values["W_hq"], "linear.bias": values["b_q"]}
        for prefix, names in self._parts():
            own = without_prefix(prefix, values)
            kernel_x, kernel_h, bias_x, bias_h = join_gates(self.cell, GATES[self.cell], own)
            bias = np.stack([bias_x, bias_h]) if self.cell == "gru" else bias_x
            native |= dict(zip(names, (kernel_x, kernel_h, bias), strict=True))
        return native

    def native_names(self, layer: int, direction: int) -> list[str]:
        """Of Keras' two matrices and its bias."""
        first = 3 * (layer * self.num_directions + direction)
        return list(backend.parameters(self))[first : first + 3]


def _checked(stack: Sequence[Any]) -> tuple[str, int, int]:
    """Cell, hidden units and directions of a stack of Keras layers, all of one kind."""
    both = [isinstance(layer, keras.layers.Bidirectional) for layer in stack]
    layers = [layer.forward_layer if b else layer for layer, b in zip(stack, both, strict=True)]
    kinds = {(type(layer), getattr(layer, "units", 0)) for layer in layers}
    fits = all(
        type(layer) in CELLS
        and layer.return_sequences
        and layer.return_state
        and layer.use_bias
        and getattr(layer, "reset_after", True)
        for layer in layers
    )
    if len(kinds) != 1 or len(set(both)) != 1 or not fits:
        raise SettingError(
            f"RNNModel got {', '.join(type(layer).__name__ for layer in stack) or 'no layer'}; "
            "it needs a SimpleRNN, GRU or LSTM of Keras, several of one kind and size, or "
            "Bidirectional ones, made with return_sequences=True, return_state=True, "
            "use_bias=True (a GRU with reset_after=True), or by recurrent_layer()"
        )
    return CELLS[type(layers[0])], layers[0].units, 2 if both[0] else 1


class _BookModel(books.BookModel, _Variables):
    pass


_chapter = books.RecurrentChapter(backend, Trainer, lambda net, lr: SGD(lr), _BookModel)
load_data_time_machine = _chapter.load_data_time_machine
predict_ch8 = _chapter.predict_ch8
train_epoch_ch8 = _chapter.train_epoch_ch8
train_ch8 = _chapter.train_ch8


def grad_clipping(gradients: Sequence[tf.Tensor], theta: float) -> list[tf.Tensor]:
    """The gradients, scaled so that their global norm is at most theta."""
    clipped, _ = updates.clip_by_global_norm(
        backend.xp, {str(i): g for i, g in enumerate(gradients)}, theta
    )
    return list(clipped.values())


parameters = partial(Parameters, backend)

__all__ = [
    "SGD",
    "DataModule",
    "HyperParameters",
    "LinearRegression",
    "LinearRegressionScratch",
    "Module",
    "NativeModel",
    "ProgressBoard",
    "RNNModel",
    "RNNModelScratch",
    "Scratch",
    "SyntheticRegressionData",
    "TextData",
    "Trainer",
    "Vocab",
    "add_to_class",
    "backend",
    "get_gru_params",
    "get_lstm_params",
    "get_params",
    "grad_clipping",
    "gru",
    "init_gru_state",
    "init_lstm_state",
    "init_rnn_state",
    "load_corpus_time_machine",
    "load_data_time_machine",
    "lstm",
    "parameters",
    "predict_ch8",
    "read_time_machine",
    "recurrent_layer",
    "rnn",
    "tokenize",
    "train_ch8",
    "train_epoch_ch8",
    "try_gpu",
]
