"""What a reader's training step plots is drawn where the books draw it, under any trainer."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from frameworks_of_tests import eager, on

from unrolled.errors import DataError
from unrolled.training.records import Listener

FIRST, SECOND = np.mean(np.arange(16)) / 32, np.mean(np.arange(16, 32)) / 32
"""Where the points of an epoch of 32 minibatches stand in the books: 0.2344 and 0.7344."""


class Losses(Listener):
    """Keeps the losses of the steps; looks at gradients through time too."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_batch(self, trainer: Any, step: int) -> bool:
        return True

    def on_step(self, trainer: Any, step: Any) -> None:
        self.losses.append(step.loss)

    def points(self, times: float = 1) -> list[Any]:
        """Two of an epoch of 32 minibatches."""
        means = np.array(self.losses).reshape(2, 16).mean(1) * times
        return [
            (x, pytest.approx(y, rel=1e-4)) for x, y in zip((FIRST, SECOND), means, strict=True)
        ]


def fit(d2l: Any, model: Any, Trainer: Any = None) -> tuple[Any, Losses]:
    """The points drawn in an epoch of 32 minibatches, and the losses."""
    d2l.backend.seed(0)
    ear = Losses()
    trainer = (Trainer or d2l.Trainer)(max_epochs=1)
    trainer.listeners = [ear]
    trainer.fit(model, d2l.SyntheticRegressionData([2, -3.4], 4.2, seed=0))
    return model.board.points, ear


def test_the_points_of_the_loss_stand_where_the_books_draw_them(d2l: Any) -> None:
    points, ear = fit(d2l, d2l.LinearRegressionScratch(2, lr=0.03))
    assert FIRST == 0.234375
    assert points["train_loss"] == ear.points()


@pytest.mark.parametrize(
    ("beside_the_loss", "name", "times"),
    [(False, "loss", 1000), (True, "double", 2), (False, "double", 2)],
)
def test_what_a_reader_plots_is_drawn_and_the_loss_beside_it_only_where_that_is_kept(
    d2l: Any, beside_the_loss: bool, name: str, times: int
) -> None:
    class Plotting(d2l.LinearRegressionScratch):  # type: ignore[misc,name-defined]
        def training_step(self, batch: Any) -> Any:
            keep = super().training_step if beside_the_loss else self.batch_loss
            loss = keep(batch)
            self.plot(name, loss * times, train=True)
            return loss

    points, ear = fit(d2l, Plotting(2, lr=0.03))
    assert points.pop(f"train_{name}") == ear.points(times)
    if beside_the_loss:
        assert points.pop("train_loss") == ear.points()
    assert set(points) == {"val_loss"}


@eager
def test_a_step_may_use_the_trainer_when_layers_still_wait_for_their_shapes(d2l: Any) -> None:
    seen = []

    class Counting(d2l.LinearRegression):  # type: ignore[misc,name-defined]
        def training_step(self, batch: Any) -> Any:
            seen.append((self.trainer.epoch, self.trainer.train_batch_idx))
            loss = self.batch_loss(batch) * self.trainer.max_epochs
            self.plot("loss", loss, train=True)
            return loss

    points, ear = fit(d2l, Counting(lr=0.03))
    assert seen[0] == (0, 0)
    assert points["train_loss"] == ear.points()  # and nothing of what it was shown before


def test_a_look_at_shapes_for_gradients_through_time_draws_nothing(d2l: Any) -> None:
    class Plotting(d2l.RNNLMScratch):  # type: ignore[misc,name-defined]
        def training_step(self, batch: Any) -> Any:
            loss = self.batch_loss(batch)
            self.plot("nats", loss, train=True)
            return loss

    data = d2l.TimeMachine(batch_size=2, num_steps=3, num_train=8, num_val=2)  # 4 minibatches
    model = Plotting(d2l.RNNScratch(28, 4), vocab_size=28)
    ear = Losses()
    d2l.Trainer(max_epochs=1, listeners=[ear]).fit(model, data)
    means = np.array(ear.losses).reshape(2, 2).mean(1)
    assert model.board.points["train_nats"] == [
        (x, pytest.approx(y, rel=1e-4)) for x, y in zip((0.125, 0.625), means, strict=True)
    ]


def test_a_number_may_come_as_an_array_of_one(d2l: Any) -> None:
    model = d2l.LinearRegressionScratch(2, lr=0.03)
    model.trainer = SimpleNamespace(epoch=0, num_val_batches=1)
    for value in (d2l.tensor([1.5]), np.float32(2.5), 4):
        model.plot("b", value, train=False)
    assert model.board.points["val_b"] == [(1, 1.5), (1, 2.5), (1, 4)]
    with pytest.raises(DataError, match=r"plot\('b', ...\) was given an array of shape \(2,\)"):
        model.plot("b", d2l.tensor([1.0, 2.0]), train=False)


@pytest.mark.parametrize("b", ["number", "scalar", "array"])
def test_the_true_values_may_be_arrays_of_the_framework(d2l: Any, b: str) -> None:
    value = {"number": 4.2, "scalar": d2l.tensor(4.2), "array": d2l.tensor([4.2])}[b]
    data = d2l.SyntheticRegressionData(d2l.tensor([2, -3.4]), value, noise=0.0, num_val=0, seed=0)
    X, y = d2l.numpy(data.X), d2l.numpy(data.y)
    np.testing.assert_allclose(y, X @ [[2], [-3.4]] + 4.2, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(d2l.numpy(data.w), np.array([2, -3.4], np.float32))


def test_a_trainer_with_the_printed_constructor_trains(d2l: Any) -> None:
    class Trainer(d2l.Trainer):  # type: ignore[misc,name-defined]
        pass

    @d2l.add_to_class(Trainer)
    def __init__(  # type: ignore[misc]  # noqa: N807
        self: Any, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0
    ) -> None:
        self.save_hyperparameters()
        assert num_gpus == 0, "No GPU support yet"

    trainer = Trainer(max_epochs=1, gradient_clip_val=1)
    model = d2l.LinearRegressionScratch(2, lr=0.03)
    trainer.fit(model, d2l.SyntheticRegressionData([2, -3.4], 4.2, seed=0))
    assert len(model.board.points["train_loss"]) == 2


@on("torch")
def test_models_of_the_library_plot_under_a_trainer_that_is_wholly_a_readers(d2l: Any) -> None:

    class Trainer(d2l.HyperParameters):  # type: ignore[misc,name-defined]
        def __init__(self, max_epochs: int) -> None:
            self.save_hyperparameters()

        def fit(self, model: Any, data: Any) -> None:
            self.train_dataloader = data.train_dataloader()
            self.num_train_batches = len(self.train_dataloader)
            model.trainer, model.board.xlim = self, [0, self.max_epochs]
            optim, self.train_batch_idx = model.configure_optimizers(), 0
            for batch in self.train_dataloader:
                loss = model.training_step(batch)
                optim.zero_grad()
                loss.backward()
                optim.step()
                self.train_batch_idx += 1

    points, _ = fit(d2l, d2l.LinearRegressionScratch(2, lr=0.03), Trainer)
    assert [x for x, _ in points["train_loss"]] == [FIRST, SECOND]
