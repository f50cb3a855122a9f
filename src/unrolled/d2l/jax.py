"""*Dive into Deep Learning* on JAX: ``from unrolled.d2l import jax as d2l``.

``grad_clipping`` and ``train_epoch_ch8`` change arrays in place, so JAX has none; ``train_ch8``
returns the trained network.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from unrolled.backends import Backend
from unrolled.backends import jax as _backend
from unrolled.d2l import chapters, find_in, rnn_models, text, three_functions
from unrolled.d2l.text import *
from unrolled.d2l.three_functions import *
from unrolled.d2l.tools import *
from unrolled.jax import *
from unrolled.jax.language_model import DrawnModule, IdsModule
from unrolled.jax.module import Module as Module
from unrolled.jax.module import ScratchModule, around
from unrolled.jax.rnn_model import recurrent_layer as recurrent_layer
from unrolled.jax.training import SGD as SGD
from unrolled.jax.training import DataModule as DataModule
from unrolled.jax.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.jax.training import Trainer as Trainer
from unrolled.models.language_model import RecurrentNetwork
from unrolled.public_names import names_of_d2l

backend = _backend
arange, ones, zeros, tensor = jnp.arange, jnp.ones, jnp.zeros, jnp.array
exp, sin, tanh, sigmoid = jnp.exp, jnp.sin, jnp.tanh, jax.nn.sigmoid
matmul, concat, stack = jnp.matmul, jnp.concatenate, jnp.stack
reduce_mean, argmax, size = jnp.mean, jnp.argmax, jnp.size
transpose, swapaxes = jnp.transpose, jnp.swapaxes
float32, int32, int64 = jnp.float32, jnp.int32, jnp.int64
numpy, to = backend.to_numpy, backend.to_device
get_seed = backend.fresh_seed


def get_key() -> Any:
    """A fresh key for JAX's random draws."""
    return jax.random.PRNGKey(get_seed())


def reshape(x: Any, *shape: Any) -> Any:
    """``x.reshape(*shape)``."""
    return x.reshape(*shape)


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


class BookModel(chapters.BookModel, IdsModule):  # type: ignore[misc]  # two forms of loss
    net: Any
    make_optimizer: Any
    loss_fn: Any = None


def _book_model(net: Any, make_optimizer: Any, loss: Any = None) -> Any:
    return around(BookModel, net, make_optimizer, loss)


class SeqDataLoader(text.SeqDataLoader):
    backend: ClassVar[Backend] = backend


class TimeMachine(text.TimeMachine, DataModule):
    pass


class Classifier(rnn_models.Classifier, Module):
    has_aux: ClassVar[bool] = True

    def loss(  # type: ignore[override]  # the published form in JAX
        self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True
    ) -> tuple[Any, dict[str, Any]]:
        """Cross-entropy in nats, with an empty dict, the form of models with more to tell."""
        Y_hat = state.apply_fn({"params": params}, *X)
        return super().loss(Y_hat, Y, averaged), {}

    def accuracy(  # type: ignore[override]  # likewise
        self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True
    ) -> Any:
        Y_hat = state.apply_fn({"params": params}, *X)
        return super().accuracy(Y_hat, Y, averaged)

    def validation_step(self, *arguments: Any) -> Any:
        loss = Module.validation_step(self, *arguments)
        params, batch, state = arguments if len(arguments) == 3 else self.published(*arguments)
        self.plot("acc", self.accuracy(params, batch[:-1], batch[-1], state), train=False)
        return loss


class RNNScratch(rnn_models.RNNScratch, ScratchModule):
    num_inputs: int
    num_hiddens: int
    sigma: float = 0.01


class RNNLMScratch(rnn_models.RNNLMScratch, Classifier, ScratchModule):
    rnn: Any
    vocab_size: int
    lr: float = 0.01

    def validation_step(self, *arguments: Any) -> Any:
        return Module.validation_step(self, *arguments)

    def predict(  # type: ignore[override]  # the values live elsewhere
        self, prefix: str | Sequence[str], num_preds: int, vocab: Any, params: Any
    ) -> str:
        """As in other frameworks, with the trained values, ``trainer.state.params``."""
        return rnn_models.RNNLMScratch.predict(
            self.bind({"params": params}), prefix, num_preds, vocab
        )


class RNN(rnn_models.RNN, Module):
    num_hiddens: int

    def setup(self) -> None:
        self.rnn = recurrent_layer("rnn", 1, self.num_hiddens)  # its inputs are counted later

    def __call__(self, inputs: Any, H: Any = None, training: bool = False) -> Any:
        H, outputs = self.rnn(inputs, initial_carry=H, return_carry=True, time_major=True)
        return outputs, H


class RNNLM(rnn_models.RNNLM, RNNLMScratch):
    def setup(self) -> None:
        self.linear = nn.Dense(self.vocab_size)

    def forward(self, X: Any, state: Any = None) -> Any:
        # layers of the framework are told whether to drop some of what they see
        rnn_outputs, _ = self.rnn(self.one_hot(X), state, self.training)
        return self.output_layer(rnn_outputs)

    def output_layer(self, rnn_outputs: Any) -> Any:
        return self.linear(rnn_outputs).swapaxes(0, 1)  # (B, T, V)


_functions = chapters.Chapters(
    backend, Trainer, lambda net, lr: SGD(lr), _book_model, SeqDataLoader, SyntheticRegressionData
)


__all__ = list(names_of_d2l("jax"))
__getattr__ = find_in(_functions, __name__)
