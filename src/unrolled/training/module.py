"""``Module``: the base class of models, with training step, validation step and curves."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.backends import Array, Backend
from unrolled.errors import DataError, SettingError, check_fit
from unrolled.hyperparameters import HyperParameters
from unrolled.parameters import Parameters, shapes_of
from unrolled.training.board import Board
from unrolled.training.records import EpochRecord, StepRecord


class Module(HyperParameters):
    """Base class of models: what to compute, what to minimise, and with which optimizer.

    It is also the framework's own module type, so the framework's tools work on it. A
    subclass defines ``forward`` (or sets ``net``), `loss` and, unless plain SGD at
    ``self.lr`` suits, `configure_optimizers`.

    Args:
        plot_train_per_epoch: points of a training curve per epoch.
        plot_valid_per_epoch: points of a validation curve per epoch.

    Attributes:
        looks_up_rows: whether the trainer may let the gradient of a large table hold only the
            rows that a minibatch looked up, see `unrolled.backends.rows`.
        board_type: what keeps the curves; the frameworks' modules have one that draws them.
    """

    backend: ClassVar[Backend]
    board_type: ClassVar[type[Board]] = Board
    looks_up_rows: ClassVar[bool] = False
    trainer: Any = None
    net: Any

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.plot_train_per_epoch = plot_train_per_epoch
        self.plot_valid_per_epoch = plot_valid_per_epoch
        self.board = self.board_type()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle of the model takes along: not the trainer and its data."""
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}

    def declare(self, name: str, values: Array) -> None:
        """Make a parameter under a dotted name, from the framework's array of its values."""
        raise NotImplementedError(f"{type(self).__name__} makes its parameters in another way")

    def forward(self, X: Any) -> Any:
        """The prediction for inputs ``X``; by default what ``self.net`` makes of it."""
        if not hasattr(self, "net"):
            raise NotImplementedError(f"{type(self).__name__} must define forward(X) or set net")
        return self.net(X)

    def loss(self, y_hat: Any, y: Any) -> Any:
        """The mean loss of predictions ``y_hat`` against targets ``y``, a scalar.

        A model whose ``reduction`` is ``"sum"`` gives the sum; what is recorded is the mean.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss(y_hat, y)")

    def configure_optimizers(self) -> Any:
        """The optimizer that `Trainer.fit` steps."""
        raise NotImplementedError(f"{type(self).__name__} must define configure_optimizers()")

    def check_lr(self) -> None:
        """Make sure that the optimizer which a framework's models take by default has its ``lr``.

        Raises:
            SettingError: it has none.
        """
        if not hasattr(self, "lr"):
            raise SettingError(
                f"{type(self).__name__} has no learning rate: set self.lr, or define "
                "configure_optimizers()"
            )

    def batch_loss(self, batch: Any) -> Any:
        """The loss of a minibatch, whatever it is for."""
        return self.loss(self(*batch[:-1]), batch[-1])  # type: ignore[operator]

    def training_step(self, batch: Any) -> Any:
        """The loss of a training minibatch, which the trainer differentiates."""
        loss = self.batch_loss(batch)
        self.plot_loss(loss, train=True)
        return loss

    def validation_step(self, batch: Any) -> Any:
        """The loss of a validation minibatch."""
        loss = self.batch_loss(batch)
        self.plot_loss(loss, train=False)
        return loss

    def plot_loss(self, loss: Any, train: bool) -> None:
        """Add a minibatch's loss to the board, or what a subclass shows in its place.

        That of a training step of the trainer's is drawn by `step_end`, which has it as a number.
        """
        if train and getattr(self.trainer, "draws_losses", False):
            self.trainer.leaves_losses = True
        else:
            self.plot("loss", loss, train)

    def loss_and_state(self, batch: Any, state: Any) -> tuple[Any, Any]:
        """The loss of a training minibatch, and the state to carry to the next.

        Models without a state return None for it.
        """
        loss = self.training_step(batch)
        if loss is None:
            raise SettingError(
                f"{type(self).__name__}.training_step gave None; it must return the loss"
            )
        return loss, None

    def step_end(self, record: StepRecord) -> None:
        """Called by the trainer after every minibatch: adds the loss to the board.

        Unless the model has plotted by itself what it wants to show of its training steps.
        """
        if self.trainer.leaves_losses or not self.trainer.train_curves:
            self._draw("loss", record.loss, train=True)

    def epoch_end(self, record: EpochRecord) -> None:
        """Called by the trainer after every epoch; by default nothing happens."""

    def plot(self, key: str, value: Any, train: bool) -> None:
        """Add a point to the curve ``train_<key>`` or ``val_<key>``, against the epoch.

        Without a trainer (a training loop of one's own) there is no epoch: nothing happens.

        Args:
            key: what it is of.
            value: a number, or an array of one.
            train: whether it comes from a training step.

        Raises:
            DataError: the array has not one number.
        """
        trainer = self.trainer
        if trainer is None or getattr(trainer, "is_dry_run", False):
            return
        if train and hasattr(trainer, "train_curves"):  # a trainer of a reader's own has none
            trainer.train_curves.add(key)
        self._draw(key, value, train)

    def _draw(self, key: str, value: Any, train: bool) -> None:
        trainer = self.trainer
        self.board.xlabel = "epoch"
        if train:
            x = trainer.train_batch_idx / trainer.num_train_batches
            every_n = trainer.num_train_batches / self.plot_train_per_epoch
        else:
            x = trainer.epoch + 1
            every_n = trainer.num_val_batches / self.plot_valid_per_epoch
        label = f"{'train' if train else 'val'}_{key}"
        self.board.draw(x, self._number(key, value), label, max(1, int(every_n)))

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, (int, float)):
            return value
        plain = isinstance(value, (np.ndarray, np.generic))
        values = value if plain else self.backend.to_numpy(value)
        if values.size != 1:
            raise DataError(
                f"plot('{key}', ...) was given an array of shape {values.shape}; a point of a "
                "curve is one number: take its mean, or its norm"
            )
        return float(values.item())

    def export_parameters(self) -> dict[str, npt.NDArray[Any]]:
        """The values of all parameters by name, the same names in every framework.

        Tied parameters stand under each of their names, as one and the same array.
        """
        arrays: dict[int, npt.NDArray[Any]] = {}
        values: dict[str, npt.NDArray[Any]] = {}
        for name, value in self.backend.named_arrays(self).items():
            if id(value) not in arrays:
                arrays[id(value)] = self.backend.to_numpy(value)
            values[name] = arrays[id(value)]
        return values

    def import_parameters(self, values: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Take the values of all parameters from `export_parameters`.

        Names that share one array there are tied here from now on.

        Returns:
            The model with these values: itself, but in JAX, where models cannot change.

        Raises:
            ParameterError: names are missing or unexpected, or shapes differ; all are
                told at once, or what is tied here differs there; nothing is changed.
        """
        self.check_values(values)
        return self.load_values(self.native_values(values))

    def check_values(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Make sure that values fit this model; raises a `ParameterError` if not."""
        check_fit(shapes_of(self.export_parameters()), shapes_of(values))

    def load_values(self, values: Mapping[str, npt.NDArray[Any]]) -> Any:
        """The model with values that stand under the framework's own names."""
        Parameters(self.backend, self).load_values(values)
        return self

    def native_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Values as `export_parameters` gives them, under the names that the framework uses."""
        return values
