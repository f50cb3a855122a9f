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


@pytest.mark.parametrize(
    ("name", "is_bias"),
    [
        *((name, True) for name in ("b", "b_h", "bias", "layer.b", "net.0.bias")),
        *((name, False) for name in ("w", "W_xh", "bidirectional.W_xh", "b.w")),
    ],
)
def test_biases_are_zero_and_only_the_last_part_of_a_name_makes_one(name, is_bias):
    values = normal_weights({name: (50,)}, 1.0, seed=0)[name]
    assert not values.any() if is_bias else values.all()


@pytest.mark.parametrize("seed", [8, None])
def test_other_seeds_give_other_values(seed):
    first, second = (normal_weights(SHAPES, 1.0, seed=s) for s in (seed and 7, seed))
    assert (first["rnn.W_hh"] != second["rnn.W_hh"]).mean() > 0.99


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
