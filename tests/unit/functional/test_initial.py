import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.functional.initial import normal_weights, xavier_uniform

SHAPES = {"rnn.W_xh": (28, 200), "rnn.W_hh": (200, 200), "rnn.b_h": (200,), "b_q": (28,)}


def test_names_shapes_and_types_are_as_asked():
    values = normal_weights(SHAPES, 0.01, seed=0)
    assert {name: value.shape for name, value in values.items()} == SHAPES
    assert list(values) == list(SHAPES)
    assert {value.dtype for value in values.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("sigma", [0.01, 1.0, 1000.0])
def test_weights_have_mean_zero_and_the_given_deviation(sigma):
    W = normal_weights({"W": (200, 200)}, sigma, seed=0)["W"] / sigma  # 40,000 draws
    assert abs(W.mean()) < 5 / np.sqrt(W.size)
    assert abs(W.std() - 1) < 5 / np.sqrt(2 * W.size)
    assert abs((np.abs(W) < 1).mean() - 0.6827) < 0.02  # normal, not uniform (0.577)


@pytest.mark.parametrize("name", ["b", "b_h", "bias", "layer.b", "net.0.bias"])
def test_biases_are_zero(name):
    assert not normal_weights({name: (50,)}, 1.0, seed=0)[name].any()


@pytest.mark.parametrize("name", ["w", "W_xh", "bidirectional.W_xh", "b.w"])
def test_only_the_last_part_of_a_name_makes_a_bias(name):
    assert normal_weights({name: (50,)}, 1.0, seed=0)[name].all()


def test_the_same_seed_gives_the_same_values():
    first, second = (normal_weights(SHAPES, 0.01, seed=7) for _ in range(2))
    for name in SHAPES:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("seed", [8, None])
def test_other_seeds_give_other_values(seed):
    first, second = normal_weights(SHAPES, 1.0, seed=7), normal_weights(SHAPES, 1.0, seed=seed)
    assert (first["rnn.W_hh"] != second["rnn.W_hh"]).mean() > 0.99


def test_no_seed_draws_anew_each_time():
    first, second = (normal_weights({"W": (9,)}, 1.0)["W"] for _ in range(2))
    assert (first != second).any()


def test_weights_of_one_seed_differ_from_each_other():
    values = normal_weights({"U": (9,), "W": (9,)}, 1.0, seed=0)
    assert (values["U"] != values["W"]).all()


def test_a_bias_draws_nothing():
    with_bias = normal_weights({"U": (9,), "b": (5,), "W": (9,)}, 1.0, seed=0)
    without = normal_weights({"U": (9,), "W": (9,)}, 1.0, seed=0)
    np.testing.assert_array_equal(with_bias["W"], without["W"])


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 99))
def test_xavier_stays_in_its_bound_and_depends_on_the_seed_alone(rows, columns, seed):
    W = xavier_uniform({"W": (rows, columns)}, seed)["W"]
    assert W.dtype == np.float32
    assert abs(W).max() <= np.sqrt(6 / (rows + columns)) * (1 + 1e-6)
    np.testing.assert_array_equal(W, xavier_uniform({"W": (rows, columns)}, seed)["W"])


def test_xavier_has_the_variance_of_its_name():
    W = xavier_uniform({"W": (300, 500)}, seed=0)["W"]
    assert W.var() == pytest.approx(2 / 800, rel=0.02)
    assert abs(W.mean()) < 1e-3
