"""Recurrent models of the English *Dive into Deep Learning*, for JAX."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from unrolled.d2l import classifier, rnn_models, time_machine
from unrolled.jax.layers import recurrent_layer
from unrolled.jax.module import Module
from unrolled.jax.training import DataModule


class TimeMachine(time_machine.TimeMachine, DataModule):
    pass


class Classifier(classifier.Classifier, Module):
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


class _WrittenOut(rnn_models.WrittenOut, Module):
    """Makes the parameters; their values are drawn when Flax asks for them."""

    def setup(self) -> None:
        for name in self.shapes():
            setattr(self, name, self.param(name, self._first, name))

    def _first(self, key: Any, name: str) -> Any:
        return jnp.array(self.initial_values()[name])


class RNNScratch(rnn_models.RNNScratch, _WrittenOut):
    num_inputs: int
    num_hiddens: int
    sigma: float = 0.01


class RNNLMScratch(rnn_models.RNNLMScratch, Classifier, _WrittenOut):
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
