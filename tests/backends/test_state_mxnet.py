"""MXNet: training with everything made anew in the middle, beside training straight on."""

import functools
from typing import Any

import numpy as np
import pytest

mx = pytest.importorskip("mxnet")

from mxnet import autograd, gluon  # noqa: E402

from exact_resume import data, needs, resumed, same  # noqa: E402
from unrolled.backends import mxnet as backend  # noqa: E402
from unrolled.errors import ParameterError, SettingError  # noqa: E402
from unrolled.mxnet import SGD  # noqa: E402

state = backend.state

RULES = {
    "sgd": ("sgd", {}),
    "momentum": ("sgd", {"momentum": 0.9}),
    "nag": ("nag", {"momentum": 0.9}),
    "adam": ("adam", {}),
    "rmsprop": ("rmsprop", {"centered": True}),
    "adagrad": ("adagrad", {}),
    "adadelta": ("adadelta", {}),
    "adamax": ("adamax", {}),
    "nadam": ("nadam", {}),
    "ftrl": ("ftrl", {}),
    "ftml": ("ftml", {}),
    "signum": ("signum", {}),
    "lamb": ("lamb", {}),
    "lars": ("lars", {"momentum": 0.9}),
    "lbsgd": ("lbsgd", {"momentum": 0.9, "batch_scale": 2}),
    "sgld": ("sgld", {}),
}


def schedule(which: str) -> Any:
    schedules = mx.lr_scheduler
    return {
        "factor": lambda: schedules.FactorScheduler(2, 0.5, base_lr=0.1),
        "steps": lambda: schedules.MultiFactorScheduler([2, 5], 0.5, base_lr=0.1),
        "cosine": lambda: schedules.CosineScheduler(9, 0.1, warmup_steps=2),
    }[which]()


def network(hybrid: bool = False) -> Any:
    nn = gluon.nn
    net = nn.HybridSequential() if hybrid else nn.Sequential()
    net.add(nn.Dense(6, in_units=3), nn.BatchNorm(in_channels=6), nn.Dropout(0.5))
    net.add(nn.Dense(2, in_units=6))
    net.initialize()
    if hybrid:
        net.hybridize()
    return net


def trainer(net: Any, rule: str, options: dict[str, Any]) -> Any:
    options = {"learning_rate": 0.1} | options
    return gluon.Trainer(net.collect_params(), rule, options)


def make(name: str, hybrid: bool = False, **options: Any) -> Any:
    net = network(hybrid)
    rule, more = RULES[name]
    return net, trainer(net, rule, more | {key: value() for key, value in options.items()})


def make_ours() -> Any:
    net = network()
    return net, SGD(net.collect_params().values(), 0.1)


def step(model: Any, optimizer: Any, parameters: Any, i: int) -> Any:
    X, y = (backend.asarray(a).astype(next(iter(parameters.values())).dtype) for a in data(i))

    def loss(parameters: Any) -> Any:
        return ((model(X) - y) ** 2).mean(), None

    with autograd.train_mode():
        _, gradients = backend.value_and_grad(loss)(parameters)
    return backend.apply_gradients(optimizer, parameters, gradients)


@pytest.mark.parametrize("name", RULES)
def test_training_goes_on_exactly(name: str) -> None:
    assert resumed(backend, functools.partial(make, name), step)


@pytest.mark.parametrize("name", ["momentum", "adam", "lbsgd"])
def test_gluon_may_list_the_parameters_in_another_order(name: str) -> None:
    class Other(gluon.Block):
        """Whose layers have names, made up by Gluon, in the other order."""

        def __init__(self) -> None:
            super().__init__()
            first, last = next(orders)
            self.first = gluon.nn.Dense(6, in_units=3, prefix=first)
            self.last = gluon.nn.Dense(2, in_units=6, prefix=last)

        def forward(self, X: Any) -> Any:
            return self.last(self.first(X))

    orders = iter([("dense9_", "dense10_"), ("dense10_", "dense11_")])

    def make_other() -> Any:
        net = Other()
        net.initialize()
        rule, more = RULES[name]
        return net, trainer(net, rule, more)

    assert resumed(backend, make_other, step, compare=("parameters",))


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_and_not_without_any_part(name: str) -> None:
    # the statistics are among the parameters, too
    assert needs(backend, functools.partial(make, name), step) == {"parameters", "optimizer"}


def test_our_own_sgd_and_hybridized_networks() -> None:
    assert needs(backend, make_ours, step) == {"parameters"}
    assert resumed(backend, functools.partial(make, "adam", hybrid=True), step)


@pytest.mark.parametrize("which", ["factor", "steps", "cosine"])
def test_learning_rate_schedules(which: str) -> None:
    options = {"learning_rate": lambda: 0.1, "lr_scheduler": functools.partial(schedule, which)}
    make_scheduled = functools.partial(make, "momentum", **options)
    assert resumed(backend, make_scheduled, step, taken=4)


def test_before_the_first_step_and_with_a_changed_learning_rate() -> None:
    assert resumed(backend, functools.partial(make, "adam"), step, taken=0)

    def change(optimizer: Any) -> None:
        optimizer.set_learning_rate(0.7)

    assert resumed(backend, functools.partial(make, "adam"), step, change=change)


def test_half_precision_with_a_copy_of_the_weights_in_float32() -> None:
    class Half(gluon.Block):  # dense layers of MXNet have no such numbers on a CPU
        def __init__(self) -> None:
            super().__init__()
            self.W = self.params.get("W", shape=(3, 2), dtype="float16")

        def forward(self, X: Any) -> Any:
            return (X.reshape(8, 3, 1) * self.W.data()).sum(axis=1)

    def make_half() -> Any:
        net = Half()
        net.initialize(mx.init.One())
        return net, trainer(net, "sgd", {"momentum": 0.9, "multi_precision": True})

    assert needs(backend, make_half, step) == {"parameters", "optimizer"}


def test_statistics_are_put_back_in_place() -> None:
    model = network()
    kept = {n: b.asnumpy() for n, b in state.buffers(model).items()}
    assert list(kept) == ["1.running_mean", "1.running_var"]
    before = state.buffers(model)
    for buffer in before.values():
        buffer += 3
    state.load_buffers(model, kept)
    assert same({n: b.asnumpy() for n, b in before.items()}, kept)
    with pytest.raises(ParameterError, match=r"1\.running_var: missing"):
        state.load_buffers(model, {"1.running_mean": kept["1.running_mean"]})


def test_what_does_not_fit_is_named() -> None:
    model, optimizer = make("adam")
    parameters = backend.parameters(model)
    tree = state.optimizer_state(optimizer, parameters)
    with pytest.raises(ParameterError, match="of the optimizer Adam, this one is a SGD"):
        state.load_optimizer_state(make("sgd")[1], tree, {})
    with pytest.raises(ParameterError, match=r"moves \w+, which is no parameter of the model"):
        state.optimizer_state(optimizer, {})
    fewer = gluon.Trainer(model[0].collect_params(), "adam")
    with pytest.raises(ParameterError, match=r"the state is of .*the trainer moves 0\.bias, 0\.w"):
        state.load_optimizer_state(fewer, tree, parameters)
    with pytest.raises(SettingError, match="object, which has no state_dict"):
        state.optimizer_state(object(), {})
    optimizer.optimizer.odd = {1, 2}
    with pytest.raises(SettingError, match=r"the Adam of the gluon\.Trainer has a builtins\.set"):
        state.optimizer_state(optimizer, parameters)


# MXNet's generator cannot be read: each step is seeded


def layer(kind: str) -> Any:
    made = {
        "dropout": lambda: gluon.nn.Dropout(0.5),
        "rnn": lambda: gluon.rnn.RNN(4, num_layers=3, dropout=0.5, input_size=4),
        "gru": lambda: gluon.rnn.GRU(4, num_layers=3, dropout=0.5, input_size=4),
        "lstm": lambda: gluon.rnn.LSTM(4, num_layers=3, dropout=0.5, input_size=4),
    }[kind]()
    made.initialize()
    return made


@pytest.mark.parametrize("onednn", ["0", "1"])
@pytest.mark.parametrize("kind", ["dropout", "rnn", "gru", "lstm"])
def test_what_a_step_drops_follows_from_seed_and_step(
    kind: str, onednn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # recurrent layers of oneDNN drop nothing at all, those of MXNet itself do
    monkeypatch.setenv("MXNET_USE_MKLDNN_RNN", onednn)
    model, X = layer(kind), mx.np.ones((5, 2, 4))

    def draws(seed: int, step: int) -> Any:
        state.seed_step(seed, step)
        with autograd.record():
            outputs = [model(X), model(X), mx.np.random.uniform(size=4)]
        return np.concatenate([output.asnumpy().ravel() for output in outputs])

    first = draws(3, 8)
    for other in [(3, 9), (4, 8), (2**32 - 1, 10**12)]:
        assert not np.array_equal(draws(*other), first)
    np.testing.assert_array_equal(draws(3, 8), first)
