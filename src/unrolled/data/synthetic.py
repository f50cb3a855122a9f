"""``SyntheticRegressionData``: noisy linear data with known weights."""

from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.data.data_module import DataModule
from unrolled.errors import SettingError


class SyntheticRegressionData(DataModule):
    """Examples of a known linear function: ``y = X w + b + noise``.

    ``X ~ N(0, 1)`` of shape ``(num_train + num_val, len(w))``, noise ``~ N(0, noise^2)``,
    ``y`` of shape ``(num_train + num_val, 1)``; the first ``num_train`` rows are for
    training.

    Args:
        w: the true weights, ``(d,)``.
        b: the true bias, a number or an array of one.
        noise: standard deviation of the noise.
        num_train: training examples.
        num_val: validation examples.
        batch_size: examples of a minibatch.
        seed: of the examples and their order; None takes one from the framework's own
            generator, so that seeding that is enough.

    Example:
        >>> from unrolled import torch
        >>> data = torch.SyntheticRegressionData([2, -3.4], 4.2, seed=0)
        >>> X, y = next(iter(data.train_dataloader()))
        >>> tuple(X.shape), tuple(y.shape)
        ((32, 2), (32, 1))
    """

    num_train: int

    def __init__(
        self,
        w: Any,
        b: Any,
        noise: float = 0.01,
        num_train: int = 1000,
        num_val: int = 1000,
        batch_size: int = 32,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        w, b = self._numbers(w), self._numbers(b)
        self.w = self.backend.asarray(w.astype(np.float32))
        self.seed = self.backend.fresh_seed() if seed is None else seed
        n = num_train + num_val
        rng = np.random.default_rng([self.seed, 2])  # apart from weights drawn from the seed
        X = rng.normal(size=(n, self.w.shape[0]))
        y = X @ np.reshape(w, (-1, 1)) + b + rng.normal(0, noise, (n, 1))
        self.X = self.backend.asarray(X.astype(np.float32))  # (n, d)
        self.y = self.backend.asarray(y.astype(np.float32))  # (n, 1)

    def _numbers(self, values: Any) -> npt.NDArray[Any]:
        """Of numbers, or of an array of the framework, which NumPy need not be able to read."""
        ours = hasattr(values, "device") or hasattr(values, "ctx")
        try:
            return np.asarray(self.backend.to_numpy(values) if ours else values).astype(np.float64)
        except (TypeError, ValueError):
            raise SettingError(f"w or b is {values!r}; they must be numbers") from None

    def get_dataloader(self, train: bool) -> Any:
        rows = slice(0, self.num_train) if train else slice(self.num_train, None)
        return self.get_tensorloader((self.X, self.y), train, rows)
