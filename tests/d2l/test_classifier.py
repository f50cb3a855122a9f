"""The English edition's base class of classifiers, on every framework."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from minibatches import data_of

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(2, 3, 5)).astype(np.float32)  # (B, T, C)
LABELS = rng.integers(0, 5, (2, 3))


def log_softmax(logits: Any) -> Any:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


LOSSES = -np.take_along_axis(log_softmax(LOGITS), LABELS[..., None], -1).reshape(-1)
RIGHT = (LOGITS.argmax(-1) == LABELS).astype(np.float32).reshape(-1)


def call(d2l: Any, method: Any, averaged: bool) -> np.ndarray:
    """A method of two arrays; in JAX it takes parameters and what makes logits of them."""
    logits, labels = d2l.backend.asarray(LOGITS), d2l.backend.asarray(LABELS)
    if d2l.backend.name != "jax":
        return d2l.backend.to_numpy(method(logits, labels, averaged))
    state = SimpleNamespace(apply_fn=lambda variables, X: X * variables["params"]["one"])
    found = method({"one": 1.0}, (logits,), labels, state, averaged)
    return np.asarray(found[0] if isinstance(found, tuple) else found)


def test_loss_and_accuracy_are_those_of_all_targets(d2l: Any) -> None:
    model = d2l.Classifier()
    np.testing.assert_allclose(call(d2l, model.loss, True), LOSSES.mean(), rtol=1e-5)
    np.testing.assert_allclose(call(d2l, model.loss, False), LOSSES, rtol=1e-5)
    np.testing.assert_allclose(call(d2l, model.accuracy, True), RIGHT.mean(), rtol=1e-6)
    np.testing.assert_array_equal(call(d2l, model.accuracy, False), RIGHT)


def linear(d2l: Any) -> Any:
    """A classifier with one matrix ``W (5, 5)`` as a reader writes it."""
    name, W = d2l.backend.name, np.eye(5, dtype=np.float32)
    if name == "jax":

        class Linear(d2l.Classifier):
            lr: float = 0.1

            def setup(self) -> None:
                self.W = self.param("W", lambda _: d2l.tensor(W))

            def forward(self, X: Any) -> Any:
                return X @ self.W

        return Linear()

    class Written(d2l.Classifier):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.W = next(iter(d2l.backend.initialize({"W": W}).values()))

        def forward(self, X: Any) -> Any:
            return d2l.matmul(X, self.W)

    return Written()


def test_training_draws_the_losses_and_the_accuracy_of_validation(d2l: Any) -> None:
    arrays = LOGITS.reshape(-1, 5), LABELS.reshape(-1)
    batches = [tuple(map(d2l.backend.asarray, arrays))]
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(linear(d2l), data_of(batches, batches))
    probabilities = np.exp(log_softmax(LOGITS.reshape(-1, 5)))
    x = LOGITS.reshape(-1, 5)
    gradient = x.T @ (probabilities - np.eye(5)[LABELS.reshape(-1)]) / len(x)
    after = x @ (np.eye(5) - 0.1 * gradient)
    points = trainer.model.board.points
    assert set(points) == {"train_loss", "val_loss", "val_acc"}
    np.testing.assert_allclose(points["train_loss"][0][1], LOSSES.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        points["val_acc"][0][1], (after.argmax(-1) == LABELS.reshape(-1)).mean(), rtol=1e-6
    )
    picked = np.take_along_axis(log_softmax(after), LABELS.reshape(-1, 1), -1)
    np.testing.assert_allclose(points["val_loss"][0][1], -picked.mean(), rtol=1e-5)
