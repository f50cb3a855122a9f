"""Linear regression on TensorFlow, written out and of Keras' own layer."""

from typing import Any

# isort: split
import keras
import tensorflow as tf

from unrolled.models import linear_regression
from unrolled.tensorflow.module import Module, VariablesModule
from unrolled.tensorflow.training import SGD


class LinearRegressionScratch(linear_regression.LinearRegressionScratch, VariablesModule):
    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)


class LinearRegression(linear_regression.LinearRegression, Module):
    def __init__(self, lr: float, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        normal = keras.initializers.RandomNormal(stddev=sigma)
        self.net = keras.layers.Dense(1, kernel_initializer=normal)

    def loss(self, y_hat: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return keras.losses.MeanSquaredError()(tf.reshape(y, y_hat.shape), y_hat)

    def get_w_b(self) -> tuple[Any, Any]:
        return self.get_weights()[0], self.get_weights()[1]

    @property
    def num_inputs(self) -> int | None:
        return self.net.kernel.shape[0] if self.net.built else None

    @property
    def w(self) -> Any:
        return self.net.kernel

    @property
    def b(self) -> Any:
        return self.net.bias
