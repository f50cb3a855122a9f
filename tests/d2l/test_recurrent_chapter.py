"""The recurrent chapter with nets and loops of a reader's own, on every framework.

A net written out by hand, as a plain class around a list of arrays, is trained by the
library's ``train_ch8``; the library's net by a loop written out by hand. Both must do what
the library does with its own: same start, same minibatches, same result.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from frameworks_of_tests import eager, on

from unrolled.errors import SettingError
from unrolled.functional.initial import normal_weights
from unrolled.models.language_model import RecurrentNetwork

H, V, LR, EPOCHS = 12, 28, 1.0, 2

VALUES = normal_weights(
    {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}, 0.3, seed=4
)


def get_params(d2l: Any) -> list[Any]:
    return list(d2l.backend.initialize(VALUES).values())


def init_state(d2l: Any, batch_size: int) -> Any:
    return (d2l.zeros((batch_size, H)),)


def one_hot(d2l: Any, X: Any) -> Any:
    return d2l.backend.xp.one_hot(d2l.backend.xp.transpose(X), V)


def rnn(d2l: Any, inputs: Any, state: Any, params: Any) -> Any:
    W_xh, W_hh, b_h, W_hq, b_q = params
    (h,) = state
    outputs = []
    for X in inputs:
        h = d2l.tanh(X @ W_xh + h @ W_hh + b_h)
        outputs.append(h @ W_hq + b_q)
    return d2l.concat(outputs, 0), (h,)


class PlainNet:
    """No module of any framework: functions, and a list of arrays."""

    def __init__(self, d2l: Any) -> None:
        self.d2l = d2l
        if d2l.backend.name == "tensorflow":
            self.trainable_variables = get_params(d2l)
        else:
            self.params = get_params(d2l)

    def __call__(self, X: Any, state: Any) -> Any:
        params = getattr(self, "params", None) or self.trainable_variables
        return rnn(self.d2l, one_hot(self.d2l, X), state, params)

    def begin_state(self, batch_size: int, *more: Any, **named: Any) -> Any:
        return init_state(self.d2l, batch_size)


def native_net(d2l: Any) -> Any:
    """A module of the framework that knows nothing of this library."""
    if d2l.backend.name == "torch":
        from torch import nn

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.held = nn.ParameterList(get_params(d2l))

            def forward(self, X: Any, state: Any) -> Any:
                return rnn(d2l, one_hot(d2l, X), state, list(self.held))

            def begin_state(self, device: Any, batch_size: int = 1) -> Any:
                return init_state(d2l, batch_size)

        return Net()
    if d2l.backend.name == "tensorflow":
        import tensorflow as tf

        class Layer(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                self.held = get_params(d2l)

            def __call__(self, X: Any, state: Any) -> Any:
                return rnn(d2l, one_hot(d2l, X), state, self.held)

            def begin_state(self, *args: Any, **kwargs: Any) -> Any:
                return init_state(d2l, kwargs["batch_size"])

        return Layer()
    from mxnet import gluon

    class Block(gluon.Block):
        def __init__(self) -> None:
            super().__init__()
            for name, value in VALUES.items():
                parameter = self.params.get(name, shape=value.shape)
                parameter.initialize("zeros")
                parameter.set_data(d2l.backend.asarray(value))
                self._reg_params[name] = parameter

        def forward(self, X: Any, state: Any) -> Any:
            params = [self._reg_params[name].data() for name in VALUES]
            return rnn(d2l, one_hot(d2l, X), state, params)

        def begin_state(self, batch_size: int, ctx: Any) -> Any:
            return init_state(d2l, batch_size)

    return Block()


def ours(d2l: Any) -> Any:
    net = d2l.RNNModelScratch(V, H)
    net.import_parameters(VALUES)
    return net


def of_own_functions(d2l: Any) -> Any:
    return d2l.RNNModelScratch(
        V,
        H,
        None,
        lambda V, H, device: get_params(d2l),
        lambda B, H, device: init_state(d2l, B),
        lambda inputs, state, params: rnn(d2l, inputs, state, params),
    )


def values(d2l: Any, net: Any) -> list[Any]:
    if isinstance(net, PlainNet):
        arrays = getattr(net, "params", None) or net.trainable_variables
    else:
        arrays = list(d2l.backend.parameters(net).values())
    return [d2l.backend.to_numpy(array) for array in arrays]


def minibatches(d2l: Any, use_random_iter: bool = False) -> Any:
    return d2l.load_data_time_machine(8, 6, use_random_iter, max_tokens=500, seed=1)


@pytest.mark.parametrize("use_random_iter", [False, True])
@pytest.mark.parametrize("kind", [PlainNet, native_net, of_own_functions])
@eager
def test_train_ch8_trains_any_net_as_it_trains_its_own(
    d2l: Any, kind: Any, use_random_iter: bool, capsys: Any
) -> None:
    found, said = [], []
    for make in (ours, kind):
        net = make(d2l)
        train_iter, vocab = minibatches(d2l, use_random_iter)
        device = d2l.try_gpu()
        assert d2l.train_ch8(net, train_iter, vocab, LR, EPOCHS, device, use_random_iter) is net
        found.append(values(d2l, net))
        said.append([line for line in capsys.readouterr().out.splitlines() if "sec" not in line])
    for own, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, own, atol=2e-5)
    assert said[0] == said[1]


@eager
def test_predict_ch8_writes_with_any_net(d2l: Any) -> None:
    _, vocab = minibatches(d2l)
    device = d2l.try_gpu()
    texts = {
        d2l.predict_ch8("time traveller", 20, make(d2l), vocab, device)
        for make in (ours, PlainNet, native_net, of_own_functions)
    }
    assert len(texts) == 1


@on("torch")
@pytest.mark.parametrize("kind", [ours, PlainNet])
def test_a_loop_written_out_does_the_epoch_of_the_chapter(d2l: Any, kind: Any) -> None:
    import torch

    loss_fn = torch.nn.CrossEntropyLoss()
    net, twin = kind(d2l), ours(d2l)
    state, metric, timer = None, d2l.Accumulator(2), d2l.Timer()
    for X, Y in minibatches(d2l)[0]:
        if state is None:
            state = net.begin_state(batch_size=X.shape[0], device=d2l.try_gpu())
        for part in state:
            part.detach_()
        y = Y.T.reshape(-1)
        y_hat, state = net(X, state)
        loss = loss_fn(y_hat, y.long()).mean()
        loss.backward()
        d2l.grad_clipping(net, 1)
        d2l.sgd(net.params, LR, batch_size=1)
        metric.add(loss * y.numel(), y.numel())
    assert timer.stop() > 0
    perplexity, _ = d2l.train_epoch_ch8(
        twin,
        minibatches(d2l)[0],
        loss_fn,
        lambda batch_size: d2l.sgd(twin.params, LR, batch_size),
    )
    assert math.exp(metric[0] / metric[1]) == pytest.approx(perplexity, rel=1e-5)
    for own, theirs in zip(values(d2l, twin), values(d2l, net), strict=True):
        np.testing.assert_allclose(theirs, own, atol=2e-5)


@on("torch")
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_state_can_be_cut_off_in_place(d2l: Any, cell: str) -> None:
    import torch

    net = d2l.LanguageModel(V, H, cell, 2)
    X = torch.randint(0, V, (3, 5))
    logits, state = net(X, net.begin_state(3))
    logits.sum().backward()
    for part in state:
        part.detach_()  # as the books' loops do; on a view it is an error
    net(X, state)[0].sum().backward()
    assert all(part.grad_fn is None for part in state)


@on("mxnet")
@pytest.mark.parametrize("layer", [False, True])
def test_mxnets_words_and_its_float_ids_are_understood(d2l: Any, layer: bool) -> None:
    import mxnet as mx

    net = d2l.RNNModel(d2l.recurrent_layer("rnn", V, H), V) if layer else ours(d2l)
    X = mx.np.array([[1, 2, 3], [4, 5, 6]])  # of type float32, unless one says otherwise
    found, _ = net(X, net.begin_state(batch_size=2, ctx=mx.cpu()))
    expected, _ = net(X.astype("int64"), net.begin_state(2, mx.cpu()))
    np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


@on("tensorflow")
def test_the_books_order_of_arguments_in_tensorflow(d2l: Any) -> None:
    import tensorflow as tf

    strategy = tf.distribute.OneDeviceStrategy(d2l.try_gpu()._device_name)
    with strategy.scope():
        net = d2l.RNNModelScratch(
            V,
            H,
            lambda B, H: init_state(d2l, B),
            lambda inputs, state, params: rnn(d2l, inputs, state, params),
            lambda V, H: get_params(d2l),
        )
    train_iter, vocab = minibatches(d2l)
    d2l.train_ch8(net, train_iter, vocab, LR, EPOCHS, strategy)
    twin = ours(d2l)
    d2l.train_ch8(twin, minibatches(d2l)[0], vocab, LR, EPOCHS)
    for own, theirs in zip(values(d2l, twin), values(d2l, net), strict=True):
        np.testing.assert_allclose(theirs, own, atol=2e-5)
    assert net.begin_state(batch_size=3, dtype=tf.float32)[0].shape == (3, H)
    logits, _ = net(np.zeros((2, 3), int), None)
    assert logits.shape == (6, V)
    with d2l.try_gpu():
        assert "CPU" in tf.zeros(1).device or "GPU" in tf.zeros(1).device


def test_sequences_are_cut_in_both_ways(d2l: Any) -> None:
    corpus = list(range(35))
    for cut, continues in (
        (d2l.seq_data_iter_sequential, True),
        (d2l.seq_data_iter_random, False),
    ):
        pairs = [[d2l.backend.to_numpy(Z) for Z in pair] for pair in cut(corpus, 2, 5)]
        assert len(pairs) in (2, 3)
        for X, Y in pairs:
            assert X.shape == Y.shape == (2, 5)
            np.testing.assert_array_equal(Y, X + 1)
        if continues:
            for (X, _), (later, _) in pairwise(pairs):
                np.testing.assert_array_equal(later[:, 0], X[:, -1] + 1)


def test_devices_have_the_published_names(d2l: Any) -> None:
    assert d2l.num_gpus() == len(d2l.backend.devices(64))
    if not d2l.num_gpus():
        assert d2l.try_gpu() == d2l.cpu()
        assert d2l.try_all_gpus() == [d2l.cpu()]
        with pytest.raises(SettingError, match="there is no GPU 0 here"):
            d2l.gpu()


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_gru_takes_the_eleven_arrays_that_the_books_print(d2l: Any, num_layers: int) -> None:
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = []
    for D in (V, H)[:num_layers]:
        shapes += [(D, H), (H, H), (H,)] * 3
    params = [rng.normal(0, 0.5, s).astype(np.float32) for s in [*shapes, (H, V), (V,)]]
    X = rng.normal(size=(4, 3, V)).astype(np.float32)  # (T, B, V)

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    rows, states = list(X), []
    for layer in range(num_layers):
        W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_xh, W_hh, b_h = params[9 * layer : 9 * layer + 9]
        h, outputs = np.zeros((3, H)), []
        for x in rows:
            Z = sigmoid(x @ W_xz + h @ W_hz + b_z)
            R = sigmoid(x @ W_xr + h @ W_hr + b_r)
            h = Z * h + (1 - Z) * np.tanh(x @ W_xh + (R * h) @ W_hh + b_h)
            outputs.append(h)
        rows = outputs
        states.append(h)
    truth = np.concatenate([h @ params[-2] + params[-1] for h in rows])

    gru = d2l.gru if num_layers == 1 else RecurrentNetwork(d2l.backend, "gru", num_layers).forward
    zeros = [d2l.tensor(np.zeros((3, H), np.float32)) for _ in range(num_layers)]
    Y, state = gru(d2l.tensor(X), tuple(zeros), list(map(d2l.tensor, params)))
    np.testing.assert_allclose(d2l.numpy(Y), truth, atol=1e-5)
    np.testing.assert_allclose([d2l.numpy(h) for h in state], states, atol=1e-5)
