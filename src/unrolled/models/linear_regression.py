"""``LinearRegressionScratch`` and its base class, for any framework."""

from collections.abc import Mapping
from typing import Any

from unrolled.checks import check_inputs
from unrolled.functional.initial import normal_weights
from unrolled.functional.linear import affine
from unrolled.functional.losses import squared_loss
from unrolled.training.module import Module


class LinearRegressionScratch(Module):
    """Linear regression from scratch: ``y_hat = X w + b``, half squared error, minibatch SGD.

    ``w ~ N(0, sigma^2)`` of shape ``(num_inputs, 1)``, ``b = 0`` of shape ``(1,)``.

    Args:
        num_inputs: features of an example.
        lr: learning rate.
        sigma: standard deviation of the initial weights.
        seed: of the initial weights; None takes one from the framework's own generator.
    """

    w: Any
    b: Any
    lr: float

    def __init__(
        self, num_inputs: int, lr: float, sigma: float = 0.01, seed: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        initial = self.initial_values(num_inputs, sigma, seed)
        for name, values in self.backend.initialize(initial).items():
            self.declare(name, values)

    def initial_values(self, num_inputs: int, sigma: float, seed: int | None) -> dict[str, Any]:
        """NumPy arrays for ``w`` and ``b``."""
        seed = self.backend.fresh_seed() if seed is None else seed
        return dict(normal_weights({"w": (num_inputs, 1), "b": (1,)}, sigma, seed))

    def forward(self, X: Any) -> Any:
        """Predictions ``(n, 1)`` for inputs ``(n, num_inputs)``."""
        check_inputs(self, X, "(n, d)", self.w.shape[0])
        return affine(self.backend.xp, X, self.w, self.b)

    def loss(self, y_hat: Any, y: Any) -> Any:
        """``mean((y_hat - y)^2 / 2)``, with ``y`` reshaped to ``y_hat``."""
        return squared_loss(self.backend.xp, y_hat, y)


class LinearRegression(Module):
    """Linear regression from the framework's own layer, loss and optimizer.

    ``w`` of shape ``(num_inputs, 1)`` and ``b`` of shape ``(1,)``, started like those of
    `LinearRegressionScratch`; the loss is the framework's mean squared error, without
    the half, so that the gradient at the same ``lr`` is twice as long. Saved and carried to
    other frameworks it has the names of `LinearRegressionScratch`. ``get_w_b()`` gives the
    layer's own weight and bias (in JAX ``get_w_b(trainer.state)``).

    Args:
        lr: learning rate.
        sigma: standard deviation of the initial weights.
    """

    w: Any
    b: Any

    @property
    def num_inputs(self) -> int | None:
        """Features of an example; None before the layer has seen one."""
        raise NotImplementedError

    def forward(self, X: Any) -> Any:
        """Predictions ``(n, 1)`` for inputs ``(n, num_inputs)``."""
        check_inputs(self, X, "(n, d)", self.num_inputs)
        return super().forward(X)

    def export_parameters(self) -> dict[str, Any]:
        to_numpy = self.backend.to_numpy
        return {"w": to_numpy(self.w), "b": to_numpy(self.b)}

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # the layer's weight is w (num_inputs, 1) or, in some frameworks, its transpose
        return {
            name: values["b" if len(array.shape) == 1 else "w"].reshape(tuple(array.shape))
            for name, array in self.backend.parameters(self).items()
        }
