"""``LanguageModel`` for JAX; the computation is in `unrolled.models.language_model`."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import jax.numpy as jnp

from unrolled.backends import jax as backend
from unrolled.jax.module import Module
from unrolled.jax.training import SGD
from unrolled.models import language_model


class IdsModule(Module):
    """A model of ids ``(B, T)``, none of whose parameters depends on B or T."""

    def known_inputs(self) -> tuple[Any, ...]:
        return (jnp.zeros((1, 1), int),)


class DrawnModule(IdsModule):
    """A model whose first values are drawn once, when it is made; clones share them."""

    drawn: Any = field(default=None, kw_only=True, repr=False, compare=False)
    """Pairs of name and array."""

    def draw(self) -> Mapping[str, Any]:
        """Return the first values of all parameters by name."""
        raise NotImplementedError(f"{type(self).__name__} must define draw()")

    def __post_init__(self) -> None:
        if self.drawn is None:
            self.drawn = tuple(self.draw().items())
        super().__post_init__()

    def setup(self) -> None:
        for name, part in backend.nested(dict(self.drawn)).items():
            self.param(name, lambda _, part=part: part)

    def configure_optimizers(self) -> Any:
        return SGD(self.lr)


class LanguageModel(language_model.LanguageModel, DrawnModule):  # type: ignore[misc]  # two forms of loss
    vocab_size: int
    num_hiddens: int
    cell: str = "rnn"
    num_layers: int = 1
    lr: float = 1.0
    sigma: float = 0.01
    seed: int | None = None
    values: Any = field(default=None, compare=False)
    device: Any = None
    engine: str = "auto"
    precision: str = "float32"

    @property
    def network(self) -> language_model.RecurrentNetwork:  # type: ignore[override]  # read-only
        options = self.cell, self.num_layers, self.engine, self.precision
        return language_model.RecurrentNetwork(backend, *options)

    def draw(self) -> Mapping[str, Any]:
        return self.initial(self.sigma, self.seed, self.values, self.device)
