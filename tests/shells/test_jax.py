"""What is JAX's own: Linen modules, Optax, values in the trainer's state."""

import dataclasses
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
nn = pytest.importorskip("flax.linen")
optax = pytest.importorskip("optax")
jnp = jax.numpy

from flax.training.train_state import TrainState  # noqa: E402
from recorder import Recorder  # noqa: E402

from unrolled import jax as unrolled  # noqa: E402
from unrolled.d2l import jax as d2l  # noqa: E402
from unrolled.errors import SettingError  # noqa: E402
from unrolled.nndl import jax as nndl  # noqa: E402

V, H = 11, 6
TEXT = "the quick brown fox jumps over the lazy dog. " * 20


def regression(**settings: Any) -> Any:
    return unrolled.SyntheticRegressionData([2, -3.4], 4.2, **{"seed": 0, **settings})


def text(**settings: Any) -> Any:
    return unrolled.TextData(TEXT, 4, 7, **{"seed": 0, **settings})


def fitted(model: Any, data: Any, epochs: int = 1, **settings: Any) -> Any:
    trainer = unrolled.Trainer(epochs, **settings)
    trainer.fit(model, data)
    return trainer


def first_batch(data: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(part) for part in next(iter(data.train_dataloader())))


# Linear regression, as published


def test_the_model_is_a_linen_dataclass_that_holds_no_values() -> None:
    model = unrolled.LinearRegressionScratch(2, 0.03)
    assert isinstance(model, nn.Module)
    own = {f.name: f.default for f in dataclasses.fields(model) if not f.kw_only}
    assert list(own)[:3] == ["num_inputs", "lr", "sigma"]
    assert own["sigma"] == 0.01
    params = model.init(jax.random.key(0), jnp.ones((1, 2)))["params"]
    assert {name: value.shape for name, value in params.items()} == {"w": (2, 1), "b": (1,)}
    assert not hasattr(model, "w")
    with pytest.raises(SettingError, match="has no parameters"):
        model.export_parameters()


def test_the_loss_is_a_pure_function_of_params() -> None:
    model, (X, y) = unrolled.LinearRegressionScratch(2, 0.03), first_batch(regression())
    trainer = fitted(model, regression())
    params = {"w": jnp.array([[1.0], [2.0]]), "b": jnp.array([3.0])}
    error = X @ np.array([[1.0], [2.0]]) + 3 - y
    value, gradients = jax.value_and_grad(model.loss)(params, (X,), y[:, 0], trainer.state)
    assert float(value) == pytest.approx(np.mean(error**2 / 2), rel=1e-5)
    np.testing.assert_allclose(gradients["w"], X.T @ error / len(X), rtol=1e-4)


# The trainer


def test_the_state_is_a_train_state_of_what_was_learned() -> None:
    trainer = fitted(unrolled.LinearRegressionScratch(2, 0.03, seed=0), regression(), 2)
    state, X = trainer.state, first_batch(regression())[0]
    assert isinstance(state, TrainState)
    assert state.step == 64
    prediction = state.apply_fn({"params": state.params}, X)
    np.testing.assert_allclose(prediction, X @ state.params["w"] + state.params["b"], rtol=1e-5)
    np.testing.assert_allclose(trainer.bound_model(X), prediction, rtol=1e-6)
    stepped = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, state.params))
    np.testing.assert_allclose(stepped.params["b"], state.params["b"] - 0.03, rtol=1e-5)


def test_gradients_come_in_the_order_of_the_model() -> None:
    steps = Recorder()
    model = unrolled.LanguageModel(len(text().vocab), H)
    trainer = fitted(model, text(), listeners=[steps])
    names = ["W_xh", "W_hh", "b_h", "W_hq", "b_q"]  # sorted, b_h would come after W_xh
    assert list(trainer.parameters) == names
    assert all(found == names for found in steps.names)


def test_an_optimizer_keeps_its_state() -> None:
    class Heavy(unrolled.LinearRegressionScratch):
        def configure_optimizers(self) -> Any:
            return optax.sgd(0.1, momentum=0.5)

    data = regression(num_train=32, num_val=0)
    X, y = first_batch(data)
    b, w, velocity = np.zeros(1), np.zeros((2, 1)), [0.0, 0.0]
    for _ in range(3):
        error = X @ w + b - y
        gradients = X.T @ error / 32, error.mean(axis=0)
        velocity = [g + 0.5 * v for g, v in zip(gradients, velocity, strict=True)]
        w, b = w - 0.1 * velocity[0], b - 0.1 * velocity[1]
    params = fitted(Heavy(2, 0.1, sigma=0.0), data, 3).state.params
    np.testing.assert_allclose(params["w"], w, rtol=1e-4)
    np.testing.assert_allclose(params["b"], b, rtol=1e-4)


def test_training_goes_on_from_a_bound_model() -> None:
    data = regression(num_train=64, num_val=0)
    first = fitted(unrolled.LinearRegressionScratch(2, 0.1, seed=0), data, 3)
    steps = Recorder()
    fitted(first.bound_model, data, listeners=[steps])
    assert steps.losses[0] < 0.7 * float(np.mean(first_batch(data)[1] ** 2 / 2))


def test_losses_and_metrics_of_the_validation_are_drawn() -> None:
    class Measured(unrolled.LinearRegressionScratch):
        def validation_step(self, batch: Any) -> Any:
            self.plot("twice", 2 * self.batch_loss(batch), train=False)
            return super().validation_step(batch)

    model = Measured(2, 0.03)
    trainer = fitted(model, regression(num_val=32), 2)
    points = trainer.model.board.points
    assert [x for x, _ in points["val_loss"]] == [1, 2]
    for (_, loss), (_, twice) in zip(points["val_loss"], points["val_twice"], strict=True):
        assert twice == pytest.approx(2 * loss, rel=1e-5)
    assert points["val_loss"][-1][1] == pytest.approx(trainer.validate(), rel=1e-6)
    assert model.board is trainer.model.board


# SGD


def test_sgd_is_an_optax_transformation() -> None:
    sgd, params = unrolled.SGD(0.5), {"w": jnp.array([1.0, 2.0])}
    assert isinstance(sgd, optax.GradientTransformation)
    gradients = {"w": jnp.array([3.0, 4.0])}
    for transformation, expected in (
        (sgd, [-0.5, 0.0]),
        (optax.chain(optax.clip_by_global_norm(1.0), sgd), [0.7, 1.6]),
    ):
        changes, _ = transformation.update(gradients, transformation.init(params), params)
        np.testing.assert_allclose(optax.apply_updates(params, changes)["w"], expected, rtol=1e-6)


# Models of one's own


class Compact(unrolled.Module):
    lr: float = 0.1

    @nn.compact
    def __call__(self, X: Any) -> Any:
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(X)))

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
        return jnp.mean((state.apply_fn({"params": params}, *X) - y) ** 2)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, X: Any) -> Any:
        return nn.Dense(1)(X)


def test_a_compact_module_of_ones_own_trains() -> None:
    trainer = fitted(Compact(), regression(num_val=100), 5)
    assert set(trainer.state.params) == {"Dense_0", "Dense_1"}
    assert trainer.validate() < 0.5


@pytest.mark.parametrize("optimizer", [None, optax.adam(0.3)])
def test_a_plain_module_trains_with_a_loss(optimizer: Any) -> None:
    model = unrolled.NativeModel(Plain(), optax.squared_error, optimizer, lr=0.1)
    trainer = fitted(model, regression(num_val=100), 5)
    kernel = trainer.state.params["net"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(np.ravel(kernel), [2, -3.4], atol=0.05)


def test_a_plain_module_without_a_loss_is_told_how_to_get_one() -> None:
    with pytest.raises(SettingError, match=r"NativeModel\(net, loss\)"):
        fitted(Plain(), regression())


def test_running_statistics_are_refused() -> None:
    model = unrolled.NativeModel(nn.BatchNorm(use_running_average=False), optax.squared_error)
    with pytest.raises(SettingError, match="batch_stats"):
        fitted(model, regression())


def test_dropout_is_on_in_training_only() -> None:
    class Dropping(Compact):
        @nn.compact
        def __call__(self, X: Any) -> Any:
            kept = nn.Dropout(0.5, deterministic=not self.training)(jnp.ones((10**6, 1)))
            bias = self.param("bias", nn.initializers.zeros, (1,))
            return bias + jnp.mean(kept == 0)

        def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
            return jnp.mean(state.apply_fn({"params": params}, *X))

    steps = Recorder()
    trainer = fitted(Dropping(lr=0.0), regression(num_train=96, num_val=32), listeners=[steps])
    assert all(0.4 < share < 0.6 for share in steps.losses)
    assert len(set(steps.losses)) == 3  # another draw for every minibatch
    assert trainer.validate() == 0


# Language models


def drawn(model: Any, seed: int = 0) -> Any:
    """The model with values large enough to bend tanh, biases too."""
    rng = np.random.default_rng(seed)
    values = model.initialize().export_parameters()
    return {n: rng.normal(0, 0.7, v.shape).astype(np.float32) for n, v in values.items()}


def test_a_jitted_apply_does_not_mix_up_the_weights() -> None:
    model = unrolled.LanguageModel(V, V)  # square: no shape would tell
    bound = model.import_parameters(drawn(model))
    params, ids = bound.variables["params"], jnp.arange(6).reshape(2, 3)
    logits, _ = jax.jit(lambda params: model.apply({"params": params}, ids))(params)
    np.testing.assert_allclose(logits, bound(ids)[0], rtol=1e-5, atol=1e-6)


def test_get_params_may_give_a_list() -> None:
    def get_params(vocab_size: int, num_hiddens: int, device: Any) -> list[Any]:
        return list(d2l.get_params(vocab_size, num_hiddens, device, seed=5).values())

    data = text()
    model = d2l.RNNModelScratch(len(data.vocab), H, get_params=get_params)
    trainer = fitted(model, data)
    assert list(trainer.parameters) == [f"param_{i}" for i in range(5)]


def test_models_are_compiled_once_whatever_their_values() -> None:
    traces = []

    def forward(inputs: Any, state: Any, params: Any) -> Any:
        traces.append(inputs)
        return d2l.rnn(inputs, state, params)

    model = d2l.RNNModelScratch(V, H, forward_fn=forward)
    ids = jnp.arange(6).reshape(2, 3)
    found = []
    for seed in (0, 1):
        bound = model.import_parameters(drawn(model, seed))
        expected = bound(ids)[0]
        before = len(traces)
        logits, _ = unrolled.backend.compile(bound)(ids)
        found.append(len(traces) - before)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert found == [1, 0]


def test_train_ch8_returns_the_trained_network(capsys: pytest.CaptureFixture[str]) -> None:
    train_iter, vocab = d2l.load_data_time_machine(4, 7, max_tokens=300, seed=0)
    net = d2l.RNNModelScratch(len(vocab), 16)
    trained = d2l.train_ch8(net, train_iter, vocab, 1.0, 4)
    printed = capsys.readouterr().out.splitlines()
    assert d2l.predict_ch8("traveller", 50, trained, vocab) == printed[-1]
    before = float(printed[-3].split()[1].rstrip(","))
    d2l.train_ch8(trained, train_iter, vocab, 1.0, 1)
    after = float(capsys.readouterr().out.split()[1].rstrip(","))
    assert after < 0.95 * len(vocab)
    assert after == pytest.approx(before, rel=0.1)  # it went on from there


# Parameters


def test_a_layer_used_twice_is_one_parameter_in_flax() -> None:
    class Tied(nn.Module):
        @nn.compact
        def __call__(self, X: Any) -> Any:
            shared = nn.Dense(4, name="shared")
            return nn.Dense(1, name="last")(shared(shared(nn.Dense(4, name="first")(X))))

    params = Tied().init(jax.random.key(0), jnp.ones((1, 4)))["params"]
    assert len(params) == 3
    bound = Tied().bind({"params": params})
    with pytest.raises(SettingError, match="use one submodule at two places"):
        unrolled.parameters(bound).tie("last.bias", to="last.bias")


FRESH = {
    "digit sums": lambda: nndl.Model_RNN4SeqClass(nndl.GRU(8, 6), 10, 8, 6, 19),
    "regression": lambda: unrolled.LinearRegressionScratch(2, 0.03),
    "language model": lambda: unrolled.LanguageModel(V, H),
}


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_model_takes_values(name: str) -> None:
    values = drawn(FRESH[name]())
    found = FRESH[name]().import_parameters(values).export_parameters()
    assert list(found) == list(values)
    assert all(np.array_equal(found[part], values[part]) for part in values)


def test_a_fresh_model_of_unknown_inputs_says_what_it_needs() -> None:
    with pytest.raises(SettingError, match=r"initialize\(X\)\.import_parameters\(values\)"):
        unrolled.LinearRegression(lr=0.03).import_parameters({})
