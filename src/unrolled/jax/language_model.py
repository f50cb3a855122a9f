"""Recurrent language models written out, on JAX's arrays."""

from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax.numpy as jnp

from unrolled.backends import jax as backend
from unrolled.jax.module import Module
from unrolled.jax.training import SGD
from unrolled.models import language_model
from unrolled.models.language_model import Scratch

_rnn = Scratch(backend, "rnn")


class LanguageModel(Module):
    """What language models have in common here; their `loss` is that of all frameworks."""

    def known_inputs(self) -> tuple[Any, ...]:
        return (jnp.zeros((1, 1), int),)  # no parameter depends on B or T


class RNNModelScratch(language_model.RNNModelScratch, LanguageModel):  # type: ignore[misc]  # two forms of loss
    vocab_size: int
    num_hiddens: int
    device: Any = None
    get_params: Callable[..., Any] = _rnn.get_params
    init_state: Callable[..., Any] = _rnn.init_state
    forward_fn: Callable[..., Any] = _rnn.forward
    lr: float = 1.0
    initial: Any = field(default=None, kw_only=True, repr=False, compare=False)
    """What ``get_params`` gave, pairs of name and values: drawn once, shared by clones."""

    def __post_init__(self) -> None:
        if self.initial is None:
            params = self.get_params(self.vocab_size, self.num_hiddens, self.device)
            self.initial = tuple(language_model.by_name(params).items())
        super().__post_init__()

    def setup(self) -> None:
        for name, part in backend.nested(dict(self.initial)).items():
            self.param(name, lambda _, part=part: part)

    @property
    def _names(self) -> list[str]:  # type: ignore[override]  # read-only, as all of a module
        return [name for name, _ in self.initial]  # JAX may have sorted those of the module

    def configure_optimizers(self) -> Any:
        return SGD(self.lr)
