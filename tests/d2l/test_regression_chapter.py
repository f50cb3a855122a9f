"""The functions of the linear regression chapters do what the books print, by NumPy."""

from typing import Any

import numpy as np
import pytest

rng = np.random.default_rng(0)
X, W = rng.normal(size=(7, 2)).astype(np.float32), np.array([[2], [-3.4]], np.float32)
Y = rng.normal(size=7).astype(np.float32)


def test_synthetic_data_is_linear_but_for_its_noise(d2l: Any) -> None:
    d2l.backend.seed(0)
    X, y = map(d2l.numpy, d2l.synthetic_data(d2l.tensor([2, -3.4]), 4.2, 1000))
    assert (X.shape, y.shape) == ((1000, 2), (1000, 1))
    noise = y - (X @ [[2], [-3.4]] + 4.2)
    assert abs(noise.mean()) < 0.002
    assert 0.008 < noise.std() < 0.012


def test_linreg_and_the_loss_of_every_example(d2l: Any) -> None:
    y_hat = d2l.linreg(d2l.tensor(X), d2l.tensor(W), d2l.tensor([4.2]))
    np.testing.assert_allclose(d2l.numpy(y_hat), X @ W + 4.2, rtol=1e-5)
    losses = d2l.numpy(d2l.squared_loss(y_hat, d2l.tensor(Y)))
    np.testing.assert_allclose(losses, (X @ W + 4.2 - Y[:, None]) ** 2 / 2, rtol=1e-5)


def test_load_array_shuffles_for_training_only(d2l: Any) -> None:
    arrays = d2l.tensor(np.arange(40)), d2l.tensor(np.arange(40) ** 2)
    batches = list(d2l.load_array(arrays, 16, is_train=False))
    assert [len(x) for x, _ in batches] == [16, 16, 8]
    assert np.concatenate([d2l.numpy(x) for x, _ in batches]).tolist() == list(range(40))
    x, y = (np.concatenate(part) for part in zip(*d2l.load_array(arrays, 16), strict=True))
    assert x.tolist() != list(range(40)) == sorted(x)
    assert (y == x**2).all()


@pytest.mark.parametrize("averaged", [False, True])
def test_evaluate_loss_is_the_mean_over_all_that_the_loss_gives(d2l: Any, averaged: bool) -> None:
    def net(X: Any) -> Any:
        return d2l.matmul(X, d2l.tensor(W))

    def loss(y_hat: Any, y: Any) -> Any:
        losses = (y_hat - y) ** 2
        return d2l.reduce_mean(losses) if averaged else losses

    squares = (X @ W - Y[:, None]) ** 2
    batches = d2l.load_array((d2l.tensor(X), d2l.tensor(Y)), 4, is_train=False)
    # as the book's loop, which adds up what it is given: of 4 and 3 examples, or of 2 means
    truth = (squares[:4].mean() + squares[4:].mean()) / 2 if averaged else squares.mean()
    assert d2l.evaluate_loss(net, batches, loss) == pytest.approx(truth, rel=1e-5)
