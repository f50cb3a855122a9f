"""unrolled on MXNet: ``from unrolled import mxnet``.

The models are Gluon blocks, so MXNet's own tools work on them: ``collect_params()``,
``save_parameters()``, `autograd.record`, `gluon.Trainer`. What they compute is written
once for all frameworks, in `unrolled.functional`, `unrolled.training` and
`unrolled.models`; here is only what is MXNet's own.

Arrays are those of ``mx.np``; importing this switches MXNet's NumPy interface on.

Example:
    >>> from unrolled import mxnet
    >>> data = mxnet.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = mxnet.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> mxnet.Trainer(max_epochs=3).fit(model, data)
    >>> 3.9 < model.b.item() < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import mxnet as mx
from mxnet import autograd, gluon

from unrolled.backends import Backend
from unrolled.backends import mxnet as backend
from unrolled.books import recurrent as books
from unrolled.data import synthetic, text_data
from unrolled.data.text import load_corpus_time_machine, read_time_machine, tokenize
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError
from unrolled.functional import updates
from unrolled.models import language_model, linear_regression, native
from unrolled.models.language_model import Scratch
from unrolled.models.stacked import StackedRNNModel
from unrolled.parameters import Parameters
from unrolled.training import board, data, hyperparameters, module, trainer

HyperParameters = hyperparameters.HyperParameters
add_to_class = hyperparameters.add_to_class
ProgressBoard = board.ProgressBoard


class Module(module.Module, gluon.Block):  # type: ignore[misc]
    """A Gluon block: write ``forward``, or set ``net``.

    Deriving from `gluon.HybridBlock` too, write ``hybrid_forward``; ``hybridize()`` works.
    """

    backend: ClassVar[Backend] = backend
    lr: float

    def forward(self, X: Any, *more: Any) -> Any:
        if isinstance(self, gluon.HybridBlock):
            return gluon.HybridBlock.forward(self, X, *more)
        return super().forward(X, *more)

    def configure_optimizers(self) -> Any:
        """`gluon.Trainer` with ``"sgd"`` at ``self.lr``."""
        return gluon.Trainer(self.collect_params(), "sgd", {"learning_rate": self.lr})


class NativeModel(native.NativeModel, Module):
    pass


class DataModule(data.DataModule):
    backend: ClassVar[Backend] = backend


class Trainer(trainer.Trainer):
    backend: ClassVar[Backend] = backend

    def fit(self, model: Any, data: Any) -> None:
        training = autograd.is_training()
        try:
            super().fit(model, data)
        finally:  # the switch is the thread's, not the model's: leave it as it was
            autograd.set_training(training)

    def prepare_data(self, data: Any) -> None:
        super().prepare_data(data)
        self._loader = data.train_dataloader  # makes another one, so that none is used up

    def prepare_model(self, model: Any) -> None:
        super().prepare_model(model)
        if backend.is_deferred(model):
            # Gluon makes a layer's parameters when it is first called
            with autograd.pause():
                model.loss_and_state(self.prepare_batch(next(iter(self._loader()))), None)


class SGD(HyperParameters):
    """Minibatch stochastic gradient descent: ``param -= lr * grad``.

    Args:
        params: arrays with a gradient attached, or Gluon's parameters.
        lr: learning rate.

    Example:
        >>> import mxnet as mx
        >>> w = mx.np.array([1.0])
        >>> w.attach_grad()
        >>> with mx.autograd.record():
        ...     loss = (3 * w).sum()
        >>> loss.backward()
        >>> SGD([w], lr=0.1).step(batch_size=1)
        >>> round(w.item(), 2)
        0.7
    """

    lr: float

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        self.save_hyperparameters(ignore=["params"])
        self.params = list(params)

    def step(self, batch_size: int = 1) -> None:
        """Move every parameter against its gradient.

        Args:
            batch_size: ignored, the loss is a mean already; Gluon's trainers take one.
        """
        for param in self.params:
            array = param.data() if isinstance(param, gluon.Parameter) else param
            if array.grad is not None:
                array[:] = updates.sgd(array, array.grad, self.lr)


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


def _declare(block: gluon.Block, name: str, values: Any) -> None:
    """Give a block a Gluon parameter with these initial values."""
    parameter = block.params.get(name, shape=values.shape, dtype=values.dtype)
    parameter.initialize("zeros", ctx=values.ctx)
    parameter.set_data(values)
    block._reg_params[name] = parameter  # no attribute: block.<name> shall be the array


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, Module):
    def __init__(
        self, num_inputs: int, lr: float, sigma: float = 0.01, seed: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        for name, values in self.initial_values(num_inputs, sigma, seed).items():
            _declare(self, name, backend.asarray(values))

    @property
    def w(self) -> Any:
        return self._reg_params["w"].data()

    @property
    def b(self) -> Any:
        return self._reg_params["b"].data()

    def configure_optimizers(self) -> SGD:
        return SGD([self.w, self.b], self.lr)


class LinearRegression(linear_regression.LinearRegression, Module):
    def __init__(self, lr: float, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = gluon.nn.Dense(1)
        self.net.initialize(mx.init.Normal(sigma))

    def loss(self, y_hat: Any, y: Any) -> Any:
        return gluon.loss.L2Loss(weight=2)(y_hat, y).mean()  # Gluon's own weight has a half

    @property
    def w(self) -> Any:
        return self.net.weight.data().T

    @property
    def b(self) -> Any:
        return self.net.bias.data()


def try_gpu(i: int = 0) -> Any:
    """The i-th GPU if there is one, else the CPU."""
    gpus = backend.devices(i + 1)
    return gpus[i] if len(gpus) > i else mx.cpu()


_rnn, _gru, _lstm = (Scratch(backend, cell) for cell in ("rnn", "gru", "lstm"))
get_params, init_rnn_state, rnn = _rnn.get_params, _rnn.init_state, _rnn.forward
get_gru_params, init_gru_state, gru = _gru.get_params, _gru.init_state, _gru.forward
get_lstm_params, init_lstm_state, lstm = _lstm.get_params, _lstm.init_state, _lstm.forward


class RNNModelScratch(language_model.RNNModelScratch, Module):
    params = gluon.Block.params  # what Gluon lists; their arrays: weights()

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
        for name, param in params.items():
            _declare(self, name, param.detach())

    def weights(self) -> list[Any]:
        return list(backend.parameters(self).values())

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        state = super().begin_state(batch_size, device)
        return backend.to_device(state, self.weights()[0].ctx)

    def configure_optimizers(self) -> SGD:
        return SGD(self.weights(), self.lr)


def recurrent_layer(cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1) -> Any:
    """Gluon's own layer for a cell, initialized: `rnn.RNN` (tanh), `rnn.GRU`, `rnn.LSTM`."""
    rnn = partial(gluon.rnn.RNN, activation="tanh")
    layers: dict[str, Any] = {"rnn": rnn, "gru": gluon.rnn.GRU, "lstm": gluon.rnn.LSTM}
    layer = layers[cell](num_hiddens, num_layers, input_size=num_inputs)
    layer.initialize()
    return layer


class RNNModel(StackedRNNModel, Module):
    def __init__(self, rnn_layer: Any, vocab_size: int, lr: float = 1.0) -> None:
        super().__init__()
        layout, size = rnn_layer._layout, rnn_layer._input_size
        if layout != "TNC" or size not in (0, vocab_size) or rnn_layer._projection_size:
            raise SettingError(
                f"the layer has input_size={size}, layout={layout!r} and projection_size="
                f"{rnn_layer._projection_size}; RNNModel feeds it one-hot (T, B, {vocab_size}): "
                f"make it with input_size={vocab_size}, layout='TNC' and no projection"
            )
        self.rnn, self.vocab_size, self.lr = rnn_layer, vocab_size, lr
        self.cell = rnn_layer._mode.partition("_")[0]
        self.num_hiddens, self.num_layers = rnn_layer._hidden_size, rnn_layer._num_layers
        self.num_directions = rnn_layer._dir
        self.linear = gluon.nn.Dense(vocab_size, in_units=self.num_hiddens * self.num_directions)
        device = backend.ensure_initialized(rnn_layer)
        self.linear.initialize(ctx=device)
        with autograd.pause():  # a layer made without input_size learns it here
            rnn_layer(mx.np.zeros((1, 1, vocab_size), ctx=device))

    def forward(self, inputs: Any, state: Any = None) -> tuple[Any, Any]:
        X = backend.xp.one_hot(inputs.T, self.vocab_size)  # (T, B, V)
        if state is None:
            state = self.begin_state(inputs.shape[0])
        parts = list(state) if self.cell == "lstm" else [state]
        Y, parts = self.rnn(X, parts)  # (T, B, directions * H)
        state = tuple(parts) if self.cell == "lstm" else parts[0]
        return self.linear(Y.reshape(-1, Y.shape[-1])), state  # (T * B, V)

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        parts = self.rnn.begin_state(batch_size, ctx=self.linear.weight.list_ctx()[0])
        return tuple(parts) if self.cell == "lstm" else parts[0]

    def native_names(self, layer: int, direction: int) -> list[str]:
        kinds = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
        return [f"rnn.{'lr'[direction]}{layer}_{kind}" for kind in kinds]


class _BookModel(books.BookModel, Module):
    pass


_chapter = books.RecurrentChapter(
    backend, Trainer, lambda net, lr: SGD(backend.parameters(net).values(), lr), _BookModel
)
load_data_time_machine = _chapter.load_data_time_machine
predict_ch8 = _chapter.predict_ch8
grad_clipping = _chapter.grad_clipping
train_epoch_ch8 = _chapter.train_epoch_ch8
train_ch8 = _chapter.train_ch8

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
