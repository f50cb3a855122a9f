"""*Neural Networks and Deep Learning* on JAX: ``from unrolled.nndl import jax as nndl``.

Layers, classifier, data, metric and runner of the digit-sum experiments.
Initial values of `GRU` and `LSTM` are given as one mapping here, ``attrs={"Wi_attr": ...}``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import optax

from unrolled.backends import Backend
from unrolled.backends import jax as backend
from unrolled.data import digit_sum
from unrolled.jax.module import Module, NativeModel
from unrolled.jax.training import DataModule, Trainer
from unrolled.models.layers import with_prefix
from unrolled.nndl import bidirectional, metrics, recurrent_layers, runner, sequence_classifier
from unrolled.public_names import no_such_name

generate_data, load_data = digit_sum.generate_data, digit_sum.load_data
Metric = metrics.Metric


class _Recurrent(Module):
    """What makes the parameters; the fields are the layers' own, in the published order."""

    def setup(self) -> None:
        for name in self.names():
            setattr(self, name, self.param(name, self._first, name))

    def _first(self, key: Any, name: str) -> Any:
        return jnp.array(self.initial_values(self.attrs or {}, self.seed)[name])


class SRN(recurrent_layers.SRN, _Recurrent):
    input_size: int
    hidden_size: int
    W_attr: Any = None
    U_attr: Any = None
    b_attr: Any = None
    seed: Any = None
    engine: str = "auto"

    @property
    def attrs(self) -> dict[str, Any]:
        """The initial values that were given."""
        return {"W_attr": self.W_attr, "U_attr": self.U_attr, "b_attr": self.b_attr}


class GRU(recurrent_layers.GRU, _Recurrent):
    input_size: int
    hidden_size: int
    seed: Any = None
    engine: str = "auto"
    attrs: Any = None


class LSTM(recurrent_layers.LSTM, _Recurrent):
    input_size: int
    hidden_size: int
    seed: Any = None
    engine: str = "auto"
    attrs: Any = None


class _Bidirectional(bidirectional.Bidirectional, Module):
    input_size: int
    hidden_size: int
    seed: Any = None
    engine: str = "auto"
    attrs: Any = None

    def setup(self) -> None:
        self.make_layers(self.seed, dict(self.attrs or {}))


class BiSRN(_Bidirectional):
    layer = SRN


class BiGRU(_Bidirectional):
    layer = GRU


class BiLSTM(_Bidirectional):
    layer = LSTM


class Embedding(sequence_classifier.Embedding, Module):
    num_embeddings: int
    embedding_dim: int
    seed: Any = None

    def setup(self) -> None:
        self.W = self.param("W", self._first)

    def _first(self, key: Any) -> Any:
        shape = (self.num_embeddings, self.embedding_dim)
        return jnp.array(self.drawn({"W": shape}, self.seed)["W"])


class Linear(sequence_classifier.Linear, Module):
    in_features: int
    out_features: int
    seed: Any = None

    def setup(self) -> None:
        self.weight = self.param("weight", self._first, "weight")
        self.bias = self.param("bias", self._first, "bias")

    def _first(self, key: Any, name: str) -> Any:
        return jnp.array(self.initial_values(self.in_features, self.out_features, self.seed)[name])


class Model_RNN4SeqClass(sequence_classifier.SequenceClassifier, Module):  # noqa: N801 (published)
    embedding_layer, linear_layer = Embedding, Linear
    rnn_model: Any
    num_digits: int
    input_size: int
    hidden_size: int
    num_classes: int
    lr: float = 0.001
    optimizer: str = "adam"
    reduction: str = "mean"
    seed: Any = None

    def known_inputs(self) -> tuple[Any, ...]:
        return (jnp.zeros((1, 1), int),)  # ids (B, L)

    def setup(self) -> None:
        sizes = (self.num_digits, self.input_size, self.hidden_size, self.num_classes)
        self.make_layers(sizes, self.seed)

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:  # type: ignore[override]
        return super().loss(state.apply_fn({"params": params}, *X), y)

    def configure_optimizers(self) -> Any:
        """`optax.adam` or `optax.sgd` at ``self.lr``."""
        return {"adam": optax.adam, "sgd": optax.sgd}[self.optimizer](self.lr)


class DigitSumDataset(digit_sum.DigitSumDataset):
    backend: ClassVar[Backend] = backend


class DigitSumData(digit_sum.DigitSumData, DataModule):
    pass


class Accuracy(metrics.Accuracy):
    backend: ClassVar[Backend] = backend


class RunnerV3(runner.RunnerV3):
    """``runner.model`` is the module bound to what has been learned so far."""

    backend: ClassVar[Backend] = backend
    trainer = Trainer

    @staticmethod
    def native_model(net: Any, loss_fn: Any, optimizer: Any) -> Any:
        """The net under the trainer, with the values that it has if it is bound."""
        if net.scope is None:
            return NativeModel(net, loss_fn, optimizer)
        model = NativeModel(net.unbind()[0], loss_fn, optimizer)
        return backend.bind(model, with_prefix("net.", backend.parameters(net)))

    def take(self, values: Mapping[str, Any]) -> None:
        self.model = backend.bind(self.model, backend.initialize(values))


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
