"""Linear regression on MXNet, written out and of Gluon's own layer."""

from typing import Any

import mxnet as mx
from mxnet import gluon

from unrolled.models import linear_regression
from unrolled.mxnet.module import Module
from unrolled.mxnet.training import SGD


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, Module):
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

    def get_w_b(self) -> tuple[Any, Any]:
        return self.net.weight.data(), self.net.bias.data()

    @property
    def num_inputs(self) -> int | None:
        width = self.net.weight.shape[1]
        return width if width > 0 else None

    @property
    def w(self) -> Any:
        return self.net.weight.data().T

    @property
    def b(self) -> Any:
        return self.net.bias.data()
