"""JAX: training with everything made anew in the middle, beside training straight on."""

import functools
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import linen as nn  # noqa: E402

from exact_resume import data, needs, resumed, same  # noqa: E402
from unrolled.backends import jax as backend  # noqa: E402
from unrolled.errors import ParameterError, SettingError  # noqa: E402
from unrolled.jax import SGD  # noqa: E402

state = backend.state


class Net(nn.Module):
    @nn.compact
    def __call__(self, X: Any) -> Any:
        X = nn.Dropout(0.5, deterministic=False)(nn.tanh(nn.Dense(6)(X)))
        return nn.Dense(2, name="last")(X)


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "ours": SGD(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "half-momentum": optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.bfloat16),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(optax.exponential_decay(0.1, 2, 0.5)),
    "rmsprop": optax.rmsprop(0.1, centered=True, momentum=0.9),
    "adagrad": optax.adagrad(0.1),
    "lion": optax.lion(0.1),
    "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
    "noise": optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(3)), optax.sgd(0.1)),
    "every-second": optax.MultiSteps(optax.adam(0.1), 2),
    "injected": optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0, 9)),
    "masked": optax.masked(optax.adam(0.1), {"Dense_0": True, "last": False}),
    "apply-if-finite": optax.apply_if_finite(optax.chain(optax.clip(1.0), optax.adam(0.1)), 3),
    "chain": optax.chain(optax.ema(0.9), optax.trace(0.9), optax.scale(-0.1)),
}


STATELESS = {"sgd", "ours"}


def make(transformation: Any, dtype: Any = None) -> Any:
    X, _ = data()
    rngs = {"params": jax.random.key(backend.fresh_seed()), "dropout": jax.random.key(0)}
    params = Net().init(rngs, X)["params"]
    params = jax.tree.map(lambda array: jnp.array(array, dtype), params)
    return params, backend.Optimizer(transformation, backend.parameters(params))


def step(model: Any, optimizer: Any, parameters: Any, i: int) -> Any:
    X, y = data(i)
    key = jax.random.key(backend.fresh_seed())

    def loss(parameters: Any) -> Any:
        predicted = Net().apply({"params": backend.nested(parameters)}, X, rngs={"dropout": key})
        return ((predicted - y) ** 2).mean(), None

    _, gradients = backend.value_and_grad(loss)(parameters)
    return backend.apply_gradients(optimizer, parameters, gradients)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_exactly_and_not_without_any_part(name: str) -> None:
    expected = {"parameters", "generators"} | (set() if name in STATELESS else {"optimizer"})
    among = ("parameters", "optimizer", "generators")
    assert needs(backend, functools.partial(make, OPTIMIZERS[name]), step, among) == expected


@pytest.mark.parametrize("name", ["adam", "injected"])
def test_types_of_sixteen_bits_are_kept(name: str) -> None:
    assert resumed(backend, functools.partial(make, OPTIMIZERS[name], jnp.bfloat16), step)


def test_a_learning_rate_changed_in_training_is_kept() -> None:
    def change(optimizer: Any) -> None:
        optimizer.state.hyperparams["learning_rate"] = 0.7  # a number of Python

    transformation = optax.inject_hyperparams(optax.sgd)(0.1)
    assert resumed(backend, functools.partial(make, transformation), step, change=change)


@pytest.mark.parametrize(
    "leaf",
    [
        jnp.asarray(1.5),
        jnp.broadcast_to(jnp.asarray(1.5), (2, 2)),
        jnp.asarray(7),
        jnp.asarray(np.float32(1.5)),
        jnp.ones(2, jnp.float8_e4m3fn),
        jax.random.split(jax.random.key(1), 3),
        jax.random.key(1, impl="rbg"),
        np.float64(0.1),
        True,
        3,
        float("nan"),
    ],
    ids=str,
)
def test_leaves_of_all_kinds(leaf: Any) -> None:
    class Kept:
        transformation = None

    optimizer, other = Kept(), Kept()
    optimizer.state = {"a": (leaf, None)}
    other.state = {"a": (leaf, None)}
    tree = state.optimizer_state(optimizer, {})
    state.load_optimizer_state(other, tree, {})
    found = other.state["a"][0]
    assert isinstance(found, jax.Array) == isinstance(leaf, jax.Array)
    assert getattr(found, "dtype", None) == getattr(leaf, "dtype", None)
    assert getattr(found, "weak_type", None) == getattr(leaf, "weak_type", None)
    assert same(state.optimizer_state(other, {}), tree)


def test_the_state_of_another_transformation_is_refused() -> None:
    _, optimizer = make(optax.adam(0.1))
    tree = state.optimizer_state(optimizer, {})
    _, other = make(optax.sgd(0.1, momentum=0.9))
    with pytest.raises(ParameterError, match=r"trace.*missing"):
        state.load_optimizer_state(other, tree, {})
    _, half = make(optax.adam(0.1), jnp.bfloat16)
    with pytest.raises(ParameterError, match="float32; bfloat16 is expected"):
        state.load_optimizer_state(half, tree, {})
    _, noise = make(optax.add_noise(0.1, 0.5, jax.random.key(3, impl="rbg")))
    tree = state.optimizer_state(noise, {})
    _, other = make(optax.add_noise(0.1, 0.5, jax.random.key(3, impl="unsafe_rbg")))
    with pytest.raises(ParameterError, match=r"a key of key<rbg>; key<urbg> is expected"):
        state.load_optimizer_state(other, tree, {})


class Normed(nn.Module):
    @nn.compact
    def __call__(self, X: Any) -> Any:
        return nn.BatchNorm(use_running_average=False)(X)


def test_statistics_of_a_bound_module() -> None:
    X, _ = data()
    variables = Normed().init(jax.random.key(0), X)
    model = Normed().bind(variables, mutable=["batch_stats"])
    model(X)
    kept = {n: np.array(array) for n, array in state.buffers(model).items()}
    assert list(kept) == ["batch_stats.BatchNorm_0.mean", "batch_stats.BatchNorm_0.var"]
    assert kept["batch_stats.BatchNorm_0.mean"].any()
    other = Normed().bind(variables, mutable=["batch_stats"])
    state.load_buffers(other, kept)
    other(X)
    model(X)
    after = [{n: np.array(a) for n, a in state.buffers(m).items()} for m in (model, other)]
    assert same(*after)
    with pytest.raises(SettingError, match="mutable"):
        state.load_buffers(Normed().bind(variables), kept)
    assert state.buffers(variables["params"]) == {}
