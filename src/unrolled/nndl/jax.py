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
from unrolled.jax.module import Module, NativeModel, ScratchModule, around
from unrolled.jax.training import DataModule, Trainer
from unrolled.nndl import layers, metrics, runner, sequence_classifier
from unrolled.public_names import no_such_name

generate_data, load_data = digit_sum.generate_data, digit_sum.load_data
Metric = metrics.Metric


class _Recurrent(ScratchModule):
    input_size: int
    hidden_size: int
    seed: Any = None
    engine: str = "auto"
    attrs: Any = None

    def given(self) -> tuple[Any, ...]:
        return self.seed, self.attrs


class SRN(layers.SRN, ScratchModule):
    input_size: int
    hidden_size: int
    W_attr: Any = None
    U_attr: Any = None
    b_attr: Any = None
    seed: Any = None
    engine: str = "auto"

    def given(self) -> tuple[Any, ...]:
        attrs = {"W_attr": self.W_attr, "U_attr": self.U_attr, "b_attr": self.b_attr}
        return self.seed, attrs


class GRU(layers.GRU, _Recurrent):
    pass


class LSTM(layers.LSTM, _Recurrent):
    pass


class _Bidirectional(layers.Bidirectional, _Recurrent):
    def setup(self) -> None:
        self.make_layers(self.seed, dict(self.attrs or {}))


class BiSRN(_Bidirectional):
    layer = SRN


class BiGRU(_Bidirectional):
    layer = GRU


class BiLSTM(_Bidirectional):
    layer = LSTM


class Embedding(layers.Embedding, ScratchModule):
    num_embeddings: int
    embedding_dim: int
    seed: Any = None

    def given(self) -> tuple[Any, ...]:
        return (self.seed,)


class Linear(layers.Linear, ScratchModule):
    in_features: int
    out_features: int
    seed: Any = None

    def given(self) -> tuple[Any, ...]:
        return (self.seed,)


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
    def native_model(*arguments: Any) -> Any:
        return around(NativeModel, *arguments)

    def load_values(self, values: Mapping[str, Any]) -> None:
        self.model = backend.bind(self.model, backend.initialize(values))


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
