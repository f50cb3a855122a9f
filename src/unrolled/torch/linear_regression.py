"""Linear regression on PyTorch, written out and of PyTorch's own layer."""

from typing import Any

import torch
from torch import nn

from unrolled.models import linear_regression
from unrolled.torch.module import Module
from unrolled.torch.training import SGD


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, Module):
    def configure_optimizers(self) -> SGD:
        return SGD([self.w, self.b], self.lr)


class _NormalLazyLinear(nn.LazyLinear):
    """Takes its number of inputs from the first minibatch; weights from N(0, sigma^2)."""

    sigma: float

    def reset_parameters(self) -> None:
        if self.in_features and not self.has_uninitialized_params():
            nn.init.normal_(self.weight, 0, self.sigma)
            nn.init.zeros_(self.bias)


class LinearRegression(linear_regression.LinearRegression, Module):
    def __init__(self, lr: float, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = _NormalLazyLinear(1)
        self.net.sigma = sigma

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(y_hat, y.reshape(y_hat.shape))

    def get_w_b(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net.weight.data, self.net.bias.data

    @property
    def num_inputs(self) -> int | None:
        return self.net.in_features or None

    @property
    def w(self) -> Any:
        return self.net.weight.T

    @property
    def b(self) -> Any:
        return self.net.bias
