"""unrolled on MXNet: its own idioms work, and it computes what the formulas say."""

import math
from typing import Any

import numpy as np
import pytest

mx = pytest.importorskip("mxnet")

from mxnet import autograd, gluon  # noqa: E402
from recorder import Recorder  # noqa: E402

from unrolled import mxnet as unrolled  # noqa: E402
from unrolled.d2l import mxnet as d2l  # noqa: E402
from unrolled.errors import SettingError  # noqa: E402

V, H, T = 7, 6, 5
TEXT = "the quick brown fox jumps over the lazy dog " * 8


def regression_data(**options: Any) -> Any:
    return unrolled.SyntheticRegressionData([2, -3.4], 4.2, seed=0, **options)


def ids(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, shape)


def scratch(cell: str = "rnn", num_layers: int = 1, vocab_size: int = V, sigma: float = 0.5) -> Any:
    return unrolled.LanguageModel(vocab_size, H, cell, num_layers, sigma=sigma, seed=0)


def with_layer(cell: str = "rnn", num_layers: int = 1, vocab_size: int = V) -> Any:
    layer = unrolled.recurrent_layer(cell, vocab_size, H, num_layers)
    return unrolled.RNNModel(layer, vocab_size)


def text_data(**options: Any) -> Any:
    return unrolled.TextData(TEXT, batch_size=4, num_steps=T, seed=0, **options)


def values(model: Any) -> dict[str, np.ndarray]:
    return {name: array.asnumpy() for name, array in unrolled.backend.parameters(model).items()}


# Gluon's own idioms


def test_collect_params_lists_everything_and_save_parameters_comes_back(tmp_path: Any) -> None:
    # MXNet 1.9 cannot load a file in which no name has a dot, of its own layers neither
    for model in (scratch("lstm", 2), with_layer("gru")):
        assert isinstance(model, gluon.Block)
        listed = [p.data() for p in model.collect_params().values()]
        assert {id(a) for a in listed} == {
            id(a) for a in unrolled.backend.parameters(model).values()
        }
        before = values(model)
        model.save_parameters(str(tmp_path / "model"))
        for array in listed:
            array[:] = 0
        model.load_parameters(str(tmp_path / "model"))
        for name, value in values(model).items():
            np.testing.assert_array_equal(value, before[name])


def test_a_readers_own_loop_with_record_backward_and_step_learns() -> None:
    model = unrolled.LinearRegressionScratch(2, lr=0.1, seed=0)
    optimizer, losses = model.configure_optimizers(), []
    for X, y in regression_data(num_train=64).train_dataloader():
        with autograd.record():
            loss = model.loss(model(X), y)
        loss.backward()
        w, gradient = model.w.asnumpy(), model.w.grad.asnumpy()
        optimizer.step(len(X))  # the batch size is ignored: the loss is a mean already
        np.testing.assert_allclose(model.w.asnumpy(), w - 0.1 * gradient, rtol=1e-6)
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_sgd_takes_gluon_parameters_too() -> None:
    layer = gluon.nn.Dense(1, in_units=2)
    layer.initialize(mx.init.One())
    with autograd.record():
        loss = layer(mx.np.array([[3.0, 5.0]])).sum()
    loss.backward()
    unrolled.SGD(layer.collect_params().values(), lr=0.1).step(1)
    np.testing.assert_allclose(layer.weight.data().asnumpy(), [[0.7, 0.5]], rtol=1e-6)


class Hybrid(unrolled.Module, gluon.HybridBlock):
    def __init__(self) -> None:
        super().__init__()
        self.lr = 0.1
        self.hidden, self.out = gluon.nn.Dense(8, activation="tanh"), gluon.nn.Dense(1)
        self.initialize()

    def hybrid_forward(self, F: Any, X: Any) -> Any:
        return self.out(self.hidden(X))

    def loss(self, y_hat: Any, y: Any) -> Any:
        return gluon.loss.L2Loss()(y_hat, y).mean()


@pytest.mark.parametrize("hybridized", [False, True])
def test_a_users_own_hybrid_block_with_unknown_shapes_trains(hybridized: bool) -> None:
    model, recorder = Hybrid(), Recorder()
    if hybridized:
        model.hybridize()
    unrolled.Trainer(3, listeners=[recorder]).fit(model, regression_data())
    assert recorder.epochs[-1].loss < 0.5 * recorder.epochs[0].loss
    assert (model._cached_op is not None) == hybridized
    assert set(values(model)) == {
        f"{layer}.{part}" for layer in ("hidden", "out") for part in ("weight", "bias")
    }


def test_a_plain_gluon_model_trains_with_a_loss_and_gluons_trainer() -> None:
    net = gluon.nn.Sequential()
    net.add(gluon.nn.Dense(8, activation="relu"), gluon.nn.Dropout(0.1), gluon.nn.Dense(1))
    net.initialize()
    optimizer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    recorder = Recorder()
    model = unrolled.NativeModel(net, gluon.loss.L2Loss(), optimizer)
    unrolled.Trainer(4, gradient_clip_val=5, listeners=[recorder]).fit(model, regression_data())
    assert recorder.epochs[-1].loss < 0.7 * recorder.epochs[0].loss


def test_a_parameter_out_of_use_stays_where_it_is_whatever_the_optimizer() -> None:
    class Two(unrolled.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lr = 0.1
            self.used, self.unused = gluon.nn.Dense(1, in_units=2), gluon.nn.Dense(1, in_units=2)
            self.initialize(mx.init.One())

        def forward(self, X: Any) -> Any:
            return self.used(X)

        def loss(self, y_hat: Any, y: Any) -> Any:
            return ((y_hat - y) ** 2).mean()

    model = Two()
    decay = {"learning_rate": 0.1, "wd": 0.1}
    model.configure_optimizers = lambda: gluon.Trainer(model.collect_params(), "sgd", decay)
    unrolled.Trainer(1).fit(model, regression_data())
    np.testing.assert_array_equal(model.unused.weight.data().asnumpy(), [[1, 1]])
    assert not np.array_equal(model.used.weight.data().asnumpy(), [[1, 1]])


def test_fit_leaves_the_threads_training_switch_as_it_was() -> None:
    for before in (False, True, False):
        autograd.set_training(before)
        unrolled.Trainer(1).fit(unrolled.LinearRegressionScratch(2, 0.03), regression_data())
        assert autograd.is_training() == before


@pytest.mark.parametrize("model", ["a Gluon block", "a stranger"])
def test_a_model_that_is_not_ours_is_refused_in_words(model: str) -> None:
    given = gluon.nn.Dense(1) if model == "a Gluon block" else object()
    with pytest.raises(SettingError, match=r"unrolled\.mxnet"):
        unrolled.Trainer(1).fit(given, regression_data())


# Linear regression


# Recurrent language models


@pytest.mark.parametrize("initialized", [False, True])
def test_a_layer_of_the_readers_own_with_unknown_inputs_and_two_directions(
    initialized: bool,
) -> None:
    layer = gluon.rnn.GRU(H, 2, bidirectional=True)
    if initialized:
        layer.initialize(mx.init.Constant(0.25))
    model = unrolled.RNNModel(layer, V)
    logits, state = model(mx.np.array(ids(3, T), dtype="int64"))
    assert logits.shape == (3 * T, V)
    assert state.shape == (4, 3, H)
    weight = layer.l0_i2h_weight.data().asnumpy()
    assert weight.shape == (3 * H, V)
    assert (weight == 0.25).all() == initialized


# The books' functions


@pytest.mark.parametrize("theta", [0.01, 1000.0])
def test_grad_clipping_scales_by_theta_over_the_norm_if_that_is_larger(theta: float) -> None:
    data = text_data()
    net = scratch(vocab_size=len(data.vocab))
    with autograd.record():
        loss, _ = net.loss_and_state(next(iter(data.train_dataloader())), None)
    loss.backward()
    parameters = unrolled.backend.parameters(net).values()
    before = [p.grad.asnumpy() for p in parameters]
    norm = math.sqrt(sum((g.astype(float) ** 2).sum() for g in before))
    assert 0.01 < norm < 1000
    d2l.grad_clipping(net, theta)
    for gradient, parameter in zip(before, parameters, strict=True):
        expected = gradient * min(1, theta / norm)
        np.testing.assert_allclose(parameter.grad.asnumpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("updater", ["ours", "gluon", "function"])
def test_train_epoch_ch8_lowers_the_perplexity(updater: str) -> None:
    train_iter, vocab = d2l.load_data_time_machine(4, 6, max_tokens=200, seed=0)
    net = scratch(vocab_size=len(vocab), sigma=0.01)
    sgd = unrolled.SGD(unrolled.backend.parameters(net).values(), lr=1.0)
    given = {
        "ours": sgd,
        "gluon": gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0}),
        "function": sgd.step,
    }[updater]
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    found = [d2l.train_epoch_ch8(net, train_iter, loss, given, None, False) for _ in range(8)]
    assert 20 < found[0][0] < 28.5  # 28 is the uniform model's
    assert found[-1][0] < 0.9 * found[0][0]
    assert all(speed > 0 for _, speed in found)


# Constants


class Fixed(unrolled.Module):
    """As the chapter on construction prints it: a layer beside weights that stay as they are."""

    def __init__(self, grad_req: str = "write") -> None:
        super().__init__()
        self.rand_weight = self.params.get_constant("rand_weight", mx.np.full((2, 2), 0.5))
        self.dense = mx.gluon.nn.Dense(1, in_units=2)
        self.lr = 0.1
        self.initialize(mx.init.One())
        self.dense.bias.grad_req = grad_req

    def forward(self, X: Any) -> Any:
        return self.dense(mx.np.dot(X, self.rand_weight.data()))

    def loss(self, y_hat: Any, y: Any) -> Any:
        return ((y_hat - y) ** 2 / 2).mean()


@pytest.mark.parametrize("grad_req", ["write", "null"])
def test_what_has_no_gradient_stays_as_it_is_while_the_rest_is_trained(grad_req: str) -> None:
    data = unrolled.SyntheticRegressionData([2, -3.4], 4.2, num_train=4, batch_size=4, seed=0)
    model = Fixed(grad_req)
    unrolled.Trainer(1, gradient_clip_val=100).fit(model, data)
    X, y = data.X[:4].asnumpy(), data.y[:4].asnumpy()
    Z = X @ np.full((2, 2), 0.5)
    error = Z.sum(1, keepdims=True) - y  # (4, 1); the bias begins at zero
    step = 0.1 * error.mean(0) if grad_req == "write" else np.zeros(1)
    np.testing.assert_allclose(model.dense.bias.data().asnumpy(), -step, rtol=1e-5)
    weight = 1 - 0.1 * (error * Z).mean(0)
    np.testing.assert_allclose(model.dense.weight.data()[0].asnumpy(), weight, rtol=1e-5)
    assert (model.rand_weight.data() == 0.5).all()


def test_parameters_are_gluons_or_with_plain_arrays_a_list_of_all() -> None:
    layers = unrolled.LinearRegression(lr=0.1)
    assert isinstance(layers.parameters(), gluon.ParameterDict)
    assert list(layers.parameters()) == list(layers.collect_params())
    layers.initialize(mx.init.One(), force_reinit=True)
    layers(mx.np.ones((1, 2)))
    layers.scale = mx.np.array([3.0])
    layers.scale.attach_grad()
    assert [float(p.sum()) for p in layers.parameters()] == [2, 0, 3]
