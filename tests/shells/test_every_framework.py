"""What the models and trainers of all frameworks promise alike."""

from typing import Any

import numpy as np
import pytest

from installed import INSTALLED
from models import with_values
from unrolled.errors import NotFiniteError
from unrolled.frameworks import load
from unrolled.functional.recurrent import CELLS

W, BIAS = [2, -3.4], 4.2
TEXT = "the quick brown fox jumps over the lazy dog and runs away " * 6
V, H = 7, 4


@pytest.fixture(params=INSTALLED)
def u(request: pytest.FixtureRequest) -> Any:
    return load(request.param)


def leaves(u: Any, state: Any) -> list[np.ndarray]:
    parts = state if isinstance(state, tuple) else (state,)
    return [u.backend.to_numpy(part) for part in parts]


def test_parameters_have_dotted_names_in_the_order_of_declaration(u: Any) -> None:
    model = with_values(u.LanguageModel(V, H, num_layers=2))
    names = [f"layers.{i}.{name}" for i in (0, 1) for name in ("W_xh", "W_hh", "b_h")]
    found = list(u.backend.parameters(model))
    if u.backend.name == "torch":  # lists what modules hold after direct parameters
        found.sort(key=lambda name: not name.startswith("layers."))
    assert found == [*names, "W_hq", "b_q"]


def test_linear_regression_of_the_layer_finds_the_truth_and_has_no_half_in_its_loss(u: Any) -> None:
    data = u.SyntheticRegressionData(W, BIAS, seed=0)
    trainer = u.Trainer(5)
    trainer.fit(u.LinearRegression(0.03), data)
    w, b = (u.backend.to_numpy(p).ravel() for p in (trainer.bound_model.w, trainer.bound_model.b))
    np.testing.assert_allclose([*w, *b], [*W, BIAS], atol=0.01)
    X, y = (u.backend.to_numpy(part)[data.num_train :] for part in (data.X, data.y))
    expected = np.mean((X @ w + b - y.ravel()) ** 2)
    assert trainer.validate() == pytest.approx(expected, rel=1e-2)


def test_building_a_model_uses_up_no_minibatch(u: Any) -> None:
    seen, data = [], u.SyntheticRegressionData(W, BIAS, num_train=64, num_val=0, seed=0)

    class Trainer(u.Trainer):
        def fit_batch(self, batch: Any, state: Any) -> Any:
            seen.append(u.backend.to_numpy(batch[0]))
            return super().fit_batch(batch, state)

    Trainer(1).fit(u.LinearRegression(0.03), data)
    again = u.SyntheticRegressionData(W, BIAS, num_train=64, num_val=0, seed=0)
    for X, (expected, _) in zip(seen, again.train_dataloader(), strict=True):
        np.testing.assert_array_equal(X, u.backend.to_numpy(expected))


@pytest.mark.parametrize("lr", [100.0, 3e38])
def test_divergence_ends_with_an_error_and_the_last_finite_weights(u: Any, lr: float) -> None:
    model, trainer = u.LinearRegressionScratch(2, lr=lr, seed=0), u.Trainer(10)
    with pytest.raises(NotFiniteError, match="smaller lr"):
        trainer.fit(model, u.SyntheticRegressionData(W, BIAS, seed=0))
    values = trainer.bound_model.export_parameters()
    assert all(np.isfinite(value).all() for value in values.values())
    if lr == 3e38:  # the first step leads to infinity
        start = 0.01 * np.random.default_rng(0).standard_normal((2, 1))
        np.testing.assert_allclose(values["w"], start, rtol=1e-6)
        assert not values["b"].any()


@pytest.mark.parametrize("use_random_iter", [False, True])
@pytest.mark.parametrize("kind", ["from scratch", "layer"])
def test_the_state_is_carried_in_sequential_order_only(
    u: Any, kind: str, use_random_iter: bool
) -> None:
    given, returned = [], []

    class Trainer(u.Trainer):
        def fit_batch(self, batch: Any, state: Any) -> Any:
            record, after = super().fit_batch(batch, state)
            given.append(state)
            returned.append(after)
            return record, after

    data = u.TextData(TEXT, 3, 5, use_random_iter, seed=0)
    size = len(data.vocab)
    layer = u.recurrent_layer("gru", size, H)
    model = u.RNNModel(layer, size) if kind == "layer" else u.LanguageModel(size, H, "lstm")
    trainer = Trainer(2)
    trainer.prepare(model, data)
    before = trainer.bound_model.export_parameters()
    before = {name: value.copy() for name, value in before.items()}
    trainer.fit(model, data)
    batches = trainer.train_batch_idx // 2
    assert batches >= 3
    for i, state in enumerate(given):
        if use_random_iter or i in (0, len(given) - batches):
            assert state is None
            continue
        for now, then in zip(leaves(u, state), leaves(u, returned[i - 1]), strict=True):
            np.testing.assert_array_equal(now, then)
            assert now.any()
    for name, value in trainer.bound_model.export_parameters().items():
        assert not np.array_equal(value, before[name]), name


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_states_have_the_documented_shapes_and_carry_on(u: Any, cell: str) -> None:
    parts = CELLS[cell].num_states
    scratch = with_values(u.LanguageModel(V, H, cell, 2, sigma=0.5, seed=0))
    assert [part.shape for part in leaves(u, scratch.begin_state(3))] == [(3, H)] * 2 * parts
    layered = with_values(u.RNNModel(u.recurrent_layer(cell, V, H, 2), V))
    start = layered.begin_state(batch_size=3)
    assert isinstance(start, tuple) == (cell == "lstm")
    assert [part.shape for part in leaves(u, start)] == [(2, 3, H)] * parts
    ids = np.random.default_rng(2).integers(0, V, (3, 5))
    X, X_1, X_2 = (u.backend.asarray(part) for part in (ids, ids[:, :2], ids[:, 2:]))
    for model in (scratch, layered):
        with u.backend.without_gradients():
            whole, last = model(X)
            first, state = model(X_1, model.begin_state(3))
            second, state = model(X_2, state)
        halves = np.concatenate([u.backend.to_numpy(half) for half in (first, second)])
        np.testing.assert_allclose(halves, u.backend.to_numpy(whole), rtol=1e-4, atol=1e-5)
        for found, expected in zip(leaves(u, state), leaves(u, last), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
