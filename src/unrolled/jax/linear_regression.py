"""Linear regression on JAX, written out and of Flax's own layer."""

from typing import Any

import jax.numpy as jnp
import optax
from flax import linen as nn

from unrolled.backends import jax as backend
from unrolled.jax.module import Module
from unrolled.jax.training import SGD
from unrolled.models import linear_regression


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, Module):
    num_inputs: int
    lr: float
    sigma: float = 0.01
    seed: int | None = None

    def setup(self) -> None:
        self.w = self.param("w", self._initial, "w")
        self.b = self.param("b", self._initial, "b")

    def known_inputs(self) -> tuple[Any, ...]:
        return (jnp.zeros((1, self.num_inputs)),)

    def _initial(self, key: Any, name: str) -> Any:
        values = self.initial_values(self.num_inputs, self.sigma, self.seed)
        return backend.asarray(values[name])

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:  # type: ignore[override]
        return super().loss(state.apply_fn({"params": params}, *X), y)

    def configure_optimizers(self) -> Any:
        return SGD(self.lr)


class LinearRegression(linear_regression.LinearRegression, Module):
    lr: float
    sigma: float = 0.01

    def setup(self) -> None:
        self.net = nn.Dense(1, kernel_init=nn.initializers.normal(self.sigma))

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:  # type: ignore[override]
        y_hat = state.apply_fn({"params": params}, *X)
        return optax.squared_error(y_hat, y.reshape(y_hat.shape)).mean()

    def get_w_b(self, state: Any) -> tuple[Any, Any]:
        net = state.params["net"]
        return net["kernel"], net["bias"]

    @property
    def num_inputs(self) -> int | None:
        params = self.net.variables.get("params")
        return params["kernel"].shape[0] if params else None

    @property
    def w(self) -> Any:
        return self.net.variables["params"]["kernel"]

    @property
    def b(self) -> Any:
        return self.net.variables["params"]["bias"]
