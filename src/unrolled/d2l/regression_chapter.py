"""``synthetic_data``, ``linreg``, ``load_array`` and their like of *Dive into Deep Learning*.

Functions that the older editions' chapters on linear regression and sequences print; later
chapters take them from ``d2l``.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from unrolled.backends import Array, Backend
from unrolled.checks import checked
from unrolled.data.batching import ArrayLoader
from unrolled.functional.linear import affine
from unrolled.functional.losses import squared_loss


@dataclass(frozen=True)
class RegressionChapter:
    """The chapters' functions for one framework.

    Args:
        backend: the framework's.
        data: its ``SyntheticRegressionData``.
    """

    backend: Backend
    data: type[Any]

    def synthetic_data(self, w: Any, b: Any, num_examples: int) -> tuple[Array, Array]:
        """Examples ``X (n, d)`` from N(0, 1), and ``y = X w + b + noise (n, 1)``, noise 0.01."""
        data = self.data(w, b, num_train=num_examples, num_val=0)
        return data.X, data.y

    def linreg(self, X: Array, w: Array, b: Array) -> Array:
        """Linear regression: ``X w + b``."""
        return affine(self.backend.xp, X, w, b)

    def squared_loss(self, y_hat: Array, y: Array) -> Array:
        """Half the squared error of every prediction, in the shape of ``y_hat``."""
        return squared_loss(self.backend.xp, y_hat, y, averaged=False)

    @checked
    def load_array(
        self, data_arrays: Sequence[Any], batch_size: int, is_train: bool = True
    ) -> ArrayLoader:
        """Minibatches of arrays that share their first axis, shuffled for training."""
        arrays = [self.backend.to_numpy(array) for array in data_arrays]
        seed = self.backend.fresh_seed()
        return ArrayLoader(arrays, batch_size, is_train, self.backend.asarray, seed)

    def evaluate_loss(
        self, net: Callable[..., Any], data_iter: Iterable[Any], loss: Callable[..., Any]
    ) -> float:
        """The mean loss of a net on a data set.

        Args:
            net: called with the inputs of a minibatch.
            data_iter: minibatches ``(X, y)``.
            loss: ``(y_hat, y) -> losses`` of any shape; of one that averages, the mean of the
                minibatches.
        """
        xp = self.backend.xp
        total, count = 0.0, 0
        with self.backend.without_gradients():
            for X, y in data_iter:
                y_hat = net(X)
                losses = loss(y_hat, xp.reshape(y, tuple(y_hat.shape)))
                total += float(xp.sum(losses))
                count += math.prod(losses.shape)
        return total / count
