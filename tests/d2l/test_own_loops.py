"""Models and loops as readers of the books write them, on every framework.

They keep plain arrays with gradients as attributes, write an optimizer of their own, and put
their loop into the trainer's place. What comes out is compared with the same steps in NumPy.
"""

import importlib
import math
from typing import Any

import numpy as np
import pytest
from frameworks_of_tests import on

from minibatches import data_of
from unrolled.training.records import Listener

LR, STEPS, SIZE = 0.1, 5, 8
W, B = np.array([[0.5], [-0.25]], np.float32), np.array([0.1], np.float32)


def in_numpy(X: Any, y: Any, theta: float, times: float = 1) -> tuple[Any, Any]:
    """Weights and bias after the steps, by hand: half squared error, clipped, then SGD.

    ``times``: what a reader multiplies the clipped gradients by.
    """
    w, b = W.astype(np.float64), B.astype(np.float64)
    for _ in range(STEPS):
        error = X @ w + b - y
        dw, db = X.T @ error / len(X), error.mean(0)
        scale = min(1, theta / np.sqrt((dw**2).sum() + (db**2).sum())) if theta else 1
        scale *= times
        w, b = w - LR * scale * dw, b - LR * scale * db
    return w, b


def eager_model(d2l: Any) -> Any:
    name = d2l.backend.name

    def trainable(values: Any) -> Any:
        if name == "torch":
            return importlib.import_module("torch").tensor(values, requires_grad=True)
        if name == "tensorflow":
            return importlib.import_module("tensorflow").Variable(values, trainable=True)
        array = d2l.tensor(values)
        array.attach_grad()
        return array

    class Scratch(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.b = trainable(W), trainable(B)

        def forward(self, X: Any) -> Any:
            return d2l.matmul(X, self.w) + self.b

        def loss(self, y_hat: Any, y: Any) -> Any:
            return d2l.reduce_mean((y_hat - y) ** 2 / 2)

        def configure_optimizers(self) -> Any:
            return Sgd([self.w, self.b], LR)

    class Sgd(d2l.HyperParameters):
        def __init__(self, params: Any, lr: float) -> None:
            self.save_hyperparameters()

        if name == "tensorflow":

            def apply_gradients(self, pairs: Any) -> None:
                for grad, param in pairs:
                    param.assign_sub(self.lr * grad)
        else:

            def step(self, _: int = 1) -> None:
                for param in self.params:
                    param -= self.lr * param.grad

        if name == "torch":

            def zero_grad(self) -> None:
                for param in self.params:
                    if param.grad is not None:
                        param.grad.zero_()

    return Scratch(), {"torch": fit_torch, "tensorflow": fit_tensorflow, "mxnet": fit_mxnet}[name]


def fit_torch(self: Any) -> None:
    import torch

    self.model.train()
    for batch in self.train_dataloader:
        loss = self.model.training_step(self.prepare_batch(batch))
        self.optim.zero_grad()
        with torch.no_grad():
            loss.backward()
            if self.gradient_clip_val > 0:
                self.clip_gradients(self.gradient_clip_val, self.model)
            self.optim.step()
        self.train_batch_idx += 1
    self.model.eval()
    for batch in self.val_dataloader:
        with torch.no_grad():
            self.model.validation_step(self.prepare_batch(batch))
        self.val_batch_idx += 1


def fit_tensorflow(self: Any) -> None:
    import tensorflow as tf

    self.model.training = True
    for batch in self.train_dataloader:
        with tf.GradientTape() as tape:
            loss = self.model.training_step(self.prepare_batch(batch))
        grads = tape.gradient(loss, self.model.trainable_variables)
        if self.gradient_clip_val > 0:
            grads = self.clip_gradients(self.gradient_clip_val, grads)
        self.optim.apply_gradients(zip(grads, self.model.trainable_variables, strict=True))
        self.train_batch_idx += 1
    self.model.training = False
    for batch in self.val_dataloader:
        self.model.validation_step(self.prepare_batch(batch))
        self.val_batch_idx += 1


def fit_mxnet(self: Any) -> None:
    from mxnet import autograd

    for batch in self.train_dataloader:
        with autograd.record():
            loss = self.model.training_step(self.prepare_batch(batch))
        loss.backward()
        if self.gradient_clip_val > 0:
            self.clip_gradients(self.gradient_clip_val, self.model)
        self.optim.step(1)
        self.train_batch_idx += 1
    for batch in self.val_dataloader:
        self.model.validation_step(self.prepare_batch(batch))
        self.val_batch_idx += 1


def jax_model(d2l: Any) -> Any:
    import jax
    import optax

    class Scratch(d2l.Module):
        def setup(self) -> None:
            self.w = self.param("w", lambda _: jax.numpy.array(W))
            self.b = self.param("b", lambda _: jax.numpy.array(B))

        def forward(self, X: Any) -> Any:
            return X @ self.w + self.b

        def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
            y_hat = state.apply_fn({"params": params}, *X)
            return ((y_hat - y) ** 2 / 2).mean()

        def configure_optimizers(self) -> Any:
            return Sgd(LR)

    class Sgd(d2l.HyperParameters):
        def __init__(self, lr: float) -> None:
            self.save_hyperparameters()

        def init(self, params: Any) -> Any:
            return optax.EmptyState  # the class: as good as any state where there is none

        def update(self, updates: Any, state: Any, params: Any = None) -> Any:
            return jax.tree.map(lambda g: -self.lr * g, updates), state

    def fit_epoch(self: Any) -> None:
        self.model.training = True
        assert not self.state.batch_stats
        for batch in self.train_dataloader:
            batch = self.prepare_batch(batch)
            _, grads = self.model.training_step(self.state.params, batch, self.state)
            if self.gradient_clip_val > 0:
                grads = self.clip_gradients(self.gradient_clip_val, grads)
            self.state = self.state.apply_gradients(grads=grads)
            key, _ = jax.random.split(self.state.dropout_rng)
            self.state = self.state.replace(dropout_rng=key)
            self.train_batch_idx += 1
        self.model.training = False
        for batch in self.val_dataloader:
            self.model.validation_step(self.state.params, self.prepare_batch(batch), self.state)
            self.val_batch_idx += 1

    return Scratch(), fit_epoch


def make(d2l: Any) -> tuple[Any, Any]:
    return (jax_model if d2l.backend.name == "jax" else eager_model)(d2l)


X = np.random.default_rng(0).normal(size=(2 * SIZE, 2)).astype(np.float32)
Y = (X @ [[2.0], [-3.4]] + 4.2).astype(np.float32)


def eight_and_eight(d2l: Any) -> Any:
    """Data to train on, all at once, and as much to validate on."""

    class Data(d2l.DataModule):
        def __init__(self) -> None:
            self.save_hyperparameters()
            self.batch_size = SIZE

        def get_dataloader(self, train: bool) -> Any:
            rows = slice(0, SIZE) if train else slice(SIZE, None)
            arrays = d2l.backend.asarray(X), d2l.backend.asarray(Y)
            return self.get_tensorloader(arrays, train, rows)

    return Data()


@pytest.mark.parametrize("theta", [0, 0.05])
@pytest.mark.parametrize("own_loop", [True, False], ids=["own loop", "the trainer's"])
def test_a_model_written_out_makes_the_steps_of_the_formula(
    d2l: Any, own_loop: bool, theta: float
) -> None:
    model, fit_epoch = make(d2l)

    class Trainer(d2l.Trainer):
        pass

    if own_loop:
        fit_epoch.__name__ = "fit_epoch"
        d2l.add_to_class(Trainer)(fit_epoch)
    trainer = Trainer(max_epochs=STEPS, gradient_clip_val=theta)
    trainer.fit(model, eight_and_eight(d2l))

    found = trainer.bound_model.export_parameters()
    w, b = in_numpy(X[:SIZE], Y[:SIZE], theta)
    np.testing.assert_allclose(found["w"], w, rtol=2e-5)
    np.testing.assert_allclose(found["b"], b, rtol=2e-5)
    assert (trainer.train_batch_idx, trainer.val_batch_idx) == (STEPS, STEPS)
    # both curves are there, and no loss twice
    points = trainer.model.board.points
    assert {label: len(line) for label, line in points.items()} == {
        "train_loss": STEPS,
        "val_loss": STEPS,
    }


def clip_in_place(self: Any, grad_clip_val: float, model: Any) -> None:
    """As printed for PyTorch and MXNet, with a change of the reader's: half of it."""
    params = model.parameters()
    if hasattr(params, "values"):  # MXNet's own parameters
        params = [p.data() for p in params.values()]
    params = list(params)
    norm = math.sqrt(sum((p.grad**2).sum() for p in params))
    if norm > grad_clip_val:
        for p in params:
            p.grad[:] *= 0.5 * grad_clip_val / norm


def clip_in_jax(self: Any, grad_clip_val: float, grads: Any) -> Any:
    import jax

    leaves, _ = jax.tree_util.tree_flatten(grads)
    norm = jax.numpy.sqrt(sum(jax.numpy.vdot(x, x) for x in leaves))

    def clip(grad: Any) -> Any:
        return jax.numpy.where(norm < grad_clip_val, grad, 0.5 * grad * (grad_clip_val / norm))

    return jax.tree_util.tree_map(clip, grads)


def clip_in_tensorflow(self: Any, grad_clip_val: float, grads: Any) -> Any:
    import tensorflow as tf

    norm = tf.math.sqrt(sum(tf.reduce_sum(grad**2) for grad in grads))
    if tf.greater(norm, grad_clip_val):
        return [0.5 * grad * grad_clip_val / norm for grad in grads]
    return grads


OWN_CLIPPING = {"jax": clip_in_jax, "tensorflow": clip_in_tensorflow}


@pytest.mark.parametrize("theta", [0, 0.05])
def test_a_clipping_of_ones_own_limits_what_the_trainer_steps_by(d2l: Any, theta: float) -> None:
    class Norms(Listener):
        def on_backward(self, trainer: Any, backward: Any) -> None:
            arrays = backward.gradients.values(), backward.clipped.values()
            squares = [sum((d2l.numpy(g) ** 2).sum() for g in grads) for grads in arrays]
            norms.append(np.sqrt(squares))

        def on_step(self, trainer: Any, step: Any) -> None:
            recorded.append([step.gradient_norm, step.clipped_norm])

    norms, recorded = [], []  # type: ignore[var-annotated]

    class Trainer(d2l.Trainer):
        pass

    clipping = OWN_CLIPPING.get(d2l.backend.name, clip_in_place)
    clipping.__name__ = "clip_gradients"
    d2l.add_to_class(Trainer)(clipping)
    trainer = Trainer(max_epochs=STEPS, gradient_clip_val=theta, listeners=[Norms()])
    trainer.fit(make(d2l)[0], eight_and_eight(d2l))

    found = trainer.bound_model.export_parameters()
    w, b = in_numpy(X[:SIZE], Y[:SIZE], theta, times=0.5 if theta else 1)
    np.testing.assert_allclose(found["w"], w, rtol=2e-5)
    np.testing.assert_allclose(found["b"], b, rtol=2e-5)
    # what is reported are the gradients as they came, and as they were left
    np.testing.assert_allclose(recorded, norms, rtol=1e-5)
    assert theta == 0 or recorded[0] == pytest.approx([norms[0][0], theta / 2], rel=1e-5)
    assert norms[0][0] > 1


@on("torch")
def test_a_clipping_of_ones_own_is_given_whole_gradients(d2l: Any) -> None:
    import torch

    shapes = []

    class Trainer(d2l.Trainer):
        def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
            for p in model.parameters():
                p.grad = p.grad * 0  # another array in the place of the gradient
                shapes.append((p.grad.is_sparse, p.grad.shape == p.shape))

    ids = torch.arange(12).reshape(3, 4)  # a few rows of a large table
    model = d2l.RNNModelScratch(2000, 4, lr=1)
    before = [p.detach().clone() for p in model.parameters()]
    Trainer(max_epochs=2, gradient_clip_val=1).fit(model, data_of([(ids, ids + 1)] * 4))
    assert set(shapes) == {(False, True)}
    for p, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, old)


@on("torch")
def test_a_tensor_with_a_gradient_is_a_parameter_and_stays_the_same_object(d2l: Any) -> None:
    import torch

    w = torch.ones(2, requires_grad=True)

    class Model(d2l.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.plain, self.computed = w, torch.ones(2), 2 * w

    model = Model()
    assert model.w is w
    assert [name for name, _ in model.named_parameters()] == ["w"]
    assert list(model.state_dict()) == ["w"]
    assert list(d2l.parameters(model)) == ["w"]


@on("mxnet")
def test_arrays_with_a_gradient_are_listed_moved_and_tied_in_mxnet(d2l: Any) -> None:
    import mxnet as mx

    model = eager_model(d2l)[0]
    model.other = mx.np.zeros((2, 1))
    model.other.attach_grad()
    assert list(d2l.parameters(model)) == ["w", "b", "other"]
    d2l.parameters(model).tie("other", to="w")
    assert model.other is model.w
    assert list(d2l.parameters(model)) == ["w", "b"]
    assert d2l.backend.to_device(model, mx.cpu()) is model
    assert model.w.grad is not None
