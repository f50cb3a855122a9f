"""TensorFlow: training with everything made anew in the middle, beside training straight on."""

import functools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from exact_resume import data, is_tree, needs, resumed, same
from unrolled.backends import tensorflow as backend  # it keeps the import quiet
from unrolled.errors import ParameterError, SettingError
from unrolled.tensorflow import SGD
from unrolled.tensorflow.module import VariablesModule

# isort: split
import keras
import tensorflow as tf

state = backend.state
optimizers = keras.optimizers

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "ours": lambda: SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "averaged": lambda: optimizers.SGD(
        0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=2, gradient_accumulation_steps=2
    ),
    "adam": lambda: optimizers.Adam(0.1, amsgrad=True),
    "decay": lambda: optimizers.AdamW(optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
    "scaled": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.1), initial_scale=4.0, dynamic_growth_steps=2
    ),
    "rmsprop": lambda: optimizers.RMSprop(0.1, momentum=0.9, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(0.1),
    "adamax": lambda: optimizers.Adamax(0.1),
    "nadam": lambda: optimizers.Nadam(0.1),
    "ftrl": lambda: optimizers.Ftrl(0.1),
    "lion": lambda: optimizers.Lion(0.1),
}


class Mixed(tf.Module):
    """A module of TensorFlow with layers of Keras, variables and a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(tf.ones(6))
        self.seen = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.noise = tf.random.Generator.from_seed(np.random.randint(99))
        first = keras.layers.Dense(6)
        self.layers = [first, keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
        self.last = keras.layers.Dense(2)
        self.frozen = keras.layers.Dense(2, trainable=False)
        self(tf.zeros((1, 3)))

    def __call__(self, X: Any, training: bool = False) -> Any:
        self.seen.assign_add(1)
        for layer in self.layers:
            options = {} if isinstance(layer, keras.layers.Dense) else {"training": training}
            X = layer(X, **options)
        X = X * self.scale + 0.1 * self.noise.normal((6,))
        return self.last(X) + self.frozen(X) + 0.01 * tf.cast(self.seen, tf.float32)


def sequential() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(6),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Reshape((3, 2)),
            layers.LSTM(3, dropout=0.3, recurrent_dropout=0.3),
            layers.Dense(2),
        ]
    )


def make(optimizer: Any, kind: Any = Mixed) -> Any:
    model = kind()
    model.steps = {}
    return model, optimizer()


def step(model: Any, optimizer: Any, parameters: Any, i: int) -> Any:
    def loss(parameters: Any, X: Any, y: Any) -> Any:
        return tf.reduce_mean((model(X, training=True) - y) ** 2), None

    if "compiled" not in model.steps:
        model.steps["compiled"] = backend.compile(backend.value_and_grad(loss))
    _, gradients = model.steps["compiled"](parameters, *map(tf.constant, data(i)))
    return backend.apply_gradients(optimizer, parameters, gradients)


class Weights(tf.Module):
    """As little as an optimizer can move."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.b = tf.Variable(tf.ones((3, 2))), tf.Variable(tf.zeros(2))

    def __call__(self, X: Any, training: bool = False) -> Any:
        return X @ self.W + self.b


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_exactly(name: str) -> None:
    make_weights = functools.partial(make, OPTIMIZERS[name], Weights)
    expected = set() if name in ("sgd", "ours") else {"optimizer"}
    among = ("optimizer",)
    assert needs(backend, make_weights, step, among, more=4) == expected


@pytest.mark.parametrize("name", ["ours", "momentum", "averaged"])
def test_a_mixed_model_goes_on_exactly(name: str) -> None:
    assert resumed(backend, functools.partial(make, OPTIMIZERS[name]), step)


def test_and_not_without_any_part() -> None:
    expected = among = ("parameters", "buffers", "optimizer")
    make_adam = functools.partial(make, OPTIMIZERS["adam"])
    assert needs(backend, make_adam, step, among) == set(expected)


def test_a_sequential_model_with_recurrent_dropout() -> None:
    make_sequential = functools.partial(make, OPTIMIZERS["momentum"], sequential)
    assert resumed(backend, make_sequential, step)
    buffers = state.buffers(make_sequential()[0])
    assert len(buffers) == 4  # two of the statistics, one seed of each layer that drops inputs


def test_draws_of_keras_and_tensorflow_that_no_layer_owns() -> None:
    def step_of_noise(model: Any, optimizer: Any, parameters: Any, i: int) -> Any:
        noise = [keras.random.normal((6,)), tf.random.normal((6,)), np.random.normal(size=6)]
        noise.append(tf.random.get_global_generator().normal((6,)))
        (scale,) = parameters.values()
        gradients = {next(iter(parameters)): sum(tf.cast(n, tf.float32) for n in noise)}
        return backend.apply_gradients(optimizer, {"scale": scale}, gradients)

    def make_scale() -> Any:
        model = tf.Module()
        model.scale = tf.Variable(tf.ones(6))
        return model, SGD(0.1)

    among = ("parameters", "generators", "python")
    expected = {"parameters", "generators", "python"}
    try:
        assert needs(backend, make_scale, step_of_noise, among) == expected
    finally:
        tf.random.set_global_generator(None)


def test_generators_that_are_not_there_are_made_without_a_draw() -> None:
    backend.seed(1)
    tf.random.set_global_generator(tf.random.Generator.from_seed(3))
    keras.random.normal(())
    tree = state.generators()
    assert is_tree(tree)

    def draw() -> list[float]:
        generator = tf.random.get_global_generator()
        draws = [keras.random.normal(()), generator.normal(()), tf.random.uniform(())]
        return [float(x) for x in draws] + [backend.fresh_seed()]

    expected = draw()
    kept = state.generators()
    try:
        backend.seed(2)
        tf.random.set_global_generator(None)
        state.load_generators(tree)
        assert draw() == expected
        assert same(state.generators(), kept)
    finally:
        tf.random.set_global_generator(None)
    backend.seed(1)
    tree = state.generators()  # none of Keras' own
    keras.random.normal(())
    state.load_generators(tree)
    assert same(state.generators(), tree)


def test_a_learning_rate_changed_in_training_is_kept() -> None:
    def change(optimizer: Any) -> None:
        optimizer.learning_rate = 0.03

    make_adam = functools.partial(make, OPTIMIZERS["adam"], Weights)
    assert resumed(backend, make_adam, step, change=change)


@pytest.mark.parametrize("name", ["adam", "scaled"])
def test_before_the_first_step(name: str) -> None:
    make_weights = functools.partial(make, OPTIMIZERS[name], Weights)
    assert resumed(backend, make_weights, step, taken=0)


def test_names_of_buffers() -> None:
    names = list(state.buffers(Mixed()))
    assert names == [
        "seen",
        "noise.state",
        "layers.1.moving_mean",
        "layers.1.moving_variance",
        "layers.2.seed_generator.state",
        "frozen.kernel",
        "frozen.bias",
    ]


def test_what_does_not_fit_is_named() -> None:
    model, optimizer = make(OPTIMIZERS["adam"])
    parameters = step(model, optimizer, backend.parameters(model), 0)
    buffers = {n: backend.to_numpy(b) for n, b in state.buffers(model).items()}
    with pytest.raises(ParameterError, match=r"more: unexpected.*\nseen: missing"):
        state.load_buffers(
            model, {n: b for n, b in buffers.items() if n != "seen"} | {"more": np.ones(1)}
        )
    with pytest.raises(ParameterError, match="'seen' are float32; int64 is expected"):
        state.load_buffers(model, buffers | {"seen": np.float32(3)})
    tree = state.optimizer_state(optimizer, parameters)
    with pytest.raises(ParameterError, match="of the optimizer Adam, this one is a SGD"):
        state.load_optimizer_state(OPTIMIZERS["sgd"](), tree, parameters)
    with pytest.raises(ParameterError, match=r"the state is of scale, which the model has not"):
        state.load_optimizer_state(OPTIMIZERS["adam"](), tree, {})
    fewer = OPTIMIZERS["adam"]()
    fewer.build([parameters["scale"]])
    with pytest.raises(ParameterError, match=r"the state is of .*; the optimizer moves scale$"):
        state.load_optimizer_state(fewer, tree, parameters)
    with pytest.raises(ParameterError, match="which is no parameter of the model"):
        state.optimizer_state(optimizer, {})
    with pytest.raises(SettingError, match="object, which has no state_dict"):
        state.optimizer_state(object(), parameters)


# Operations whose kernels count their draws inside a compiled function


@pytest.mark.parametrize(
    "draw",
    [
        lambda: tf.random.uniform((2,)),
        lambda: tf.random.normal((2,), seed=3),
        lambda: tf.random.shuffle([1, 2, 3]),
        lambda: tf.nn.dropout(tf.ones(2), 0.5),
        lambda: tf.random.categorical([[0.1, 0.2]], 3),
        lambda: tf.map_fn(lambda x: x + tf.random.uniform(()), tf.ones(2)),
        tf.function(lambda: tf.random.truncated_normal((2,))),
    ],
)
def test_not_exact_names_an_operation_that_counts_by_itself(draw: Any) -> None:
    compiled = backend.compile(draw)
    assert state.not_exact(compiled) is None  # it has not run
    compiled()
    found = state.not_exact(compiled)
    assert found
    assert "counts its draws inside a compiled function" in found


def test_such_an_operation_cannot_be_restored() -> None:
    def function() -> Any:
        return tf.random.uniform((2,))

    backend.seed(1)
    compiled = backend.compile(function)
    compiled()
    tree = state.generators()
    expected = compiled().numpy()
    compiled = backend.compile(function)
    state.load_generators(tree)
    assert not np.array_equal(compiled().numpy(), expected)


def test_not_exact_is_silent_about_draws_that_are_restored() -> None:
    generator = tf.random.Generator.from_seed(1)
    dropout, lstm = keras.layers.Dropout(0.5), keras.layers.LSTM(3, dropout=0.5)

    def function() -> Any:
        X = tf.random.stateless_uniform((2, 4, 3), (1, 2)) + generator.normal(())
        return lstm(dropout(X, training=True), training=True) + keras.random.normal(())

    compiled = backend.compile(function)
    compiled()
    assert state.not_exact(compiled) is None
    assert state.not_exact(lambda: None) is None


def test_variables_of_our_own_modules() -> None:
    class Model(VariablesModule):
        def __init__(self) -> None:
            super().__init__()
            self.declare("a.W", tf.Variable(tf.ones(2)))
            self.declare("a.count", tf.Variable(tf.ones(2), trainable=False))

    assert list(state.buffers(Model())) == ["a.count"]
