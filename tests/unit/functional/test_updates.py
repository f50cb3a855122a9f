import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipping_by_hand import by_hand, norm_of
from unrolled.backends.numpy import xp
from unrolled.errors import ParameterError, SettingError
from unrolled.functional.clipping import CLIP_METHODS, clip
from unrolled.functional.updates import clip_by_global_norm, clip_coefficient, global_norm, sgd

values = st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-6)
gradient_dicts = st.fixed_dictionaries(
    {"W": arrays(np.float64, (2, 3), elements=values), "b": arrays(np.float64, 3, elements=values)}
)
thetas = st.floats(1e-3, 1e3)


def flat(gradients):
    return [float(x) for g in gradients.values() for x in g.ravel()]


@given(gradient_dicts)
def test_global_norm_is_that_of_all_values_together(gradients):
    expected = math.sqrt(math.fsum(x * x for x in flat(gradients)))
    assert float(global_norm(xp, gradients.values())) == pytest.approx(expected, rel=1e-12)


@given(gradient_dicts, thetas)
def test_clipping_keeps_the_direction_and_returns_the_norm_before_it(gradients, theta):
    before = flat(gradients)
    clipped, found = clip_by_global_norm(xp, gradients, theta)
    assert flat(gradients) == before  # they are not written to
    assert list(clipped) == list(gradients)
    after = flat(clipped)
    norm, clipped_norm = math.hypot(*before), math.hypot(*after)
    assert float(found) == pytest.approx(norm, rel=1e-12)
    assert clipped_norm == pytest.approx(min(norm, theta), rel=1e-12)
    for x, y in zip(before, after, strict=True):
        assert y * norm == pytest.approx(x * clipped_norm, rel=1e-9)


@given(gradient_dicts, st.floats(1.0, 10.0))
def test_gradients_up_to_theta_stay_untouched(gradients, slack):
    _, norm = clip_by_global_norm(xp, gradients, 1.0)
    theta = slack * float(norm) or 1.0  # slack 1: a norm of exactly theta is not clipped
    clipped, _ = clip_by_global_norm(xp, gradients, theta)
    assert flat(clipped) == flat(gradients)


@pytest.mark.parametrize(
    ("norm", "theta", "expected"),
    [
        (0.0, 2.0, 1.0),
        (1.9, 2.0, 1.0),
        (2.0, 2.0, 1.0),
        (8.0, 2.0, 0.25),
        (1e30, 1.0, 1e-30),
        (5e4, math.inf, 1.0),
    ],
)
def test_clip_coefficient_is_exact(norm, theta, expected):
    assert float(clip_coefficient(xp, np.array(norm), theta)) == pytest.approx(expected, rel=1e-15)


def test_clipping_keeps_float32():
    clipped, norm = clip_by_global_norm(xp, {"W": np.full(4, 5.0, np.float32)}, 1.0)
    assert clipped["W"].dtype == norm.dtype == np.float32


def test_sgd_moves_against_the_gradient():
    parameter, gradient = np.array([1.0, -2.0]), np.array([0.5, -4.0])
    np.testing.assert_allclose(sgd(parameter, gradient, lr=0.1), [0.95, -1.6])
    np.testing.assert_array_equal(parameter, [1.0, -2.0])


def test_sgd_on_a_parabola_shrinks_the_distance_by_one_minus_lr():
    x = np.array(1.0)
    for _ in range(96):  # the published run: three epochs of 32 minibatches at 0.03
        x = sgd(x, x, lr=0.03)
    assert float(x) == pytest.approx(0.97**96)
    assert round(float(x), 3) == 0.054


SHAPES = {
    "W": (4, 3),
    "net.weight": (3, 5),
    "kernel": (2, 2, 3, 4),
    "b": (1, 3),
    "W_x": (1, 3),
    "scale": (),
}


def some(scale, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.01, 3, len(SHAPES))
    return {
        name: np.asarray(scale * size * rng.normal(size=shape))
        for size, (name, shape) in zip(sizes, SHAPES.items(), strict=True)
    }


@pytest.mark.parametrize("theta", [0.01, 0.5, 100.0])
@pytest.mark.parametrize("method", CLIP_METHODS)
def test_every_method_clips_as_by_hand(method, theta):
    gradients, parameters = some(2.0, seed=0), some(1.0, seed=1) | {"b": np.zeros((1, 3))}
    expected = by_hand(method, gradients, parameters, theta)
    clipped, before, after = clip(xp, method, gradients, parameters, theta)
    assert list(clipped) == list(gradients)
    for name, g in expected.items():
        np.testing.assert_allclose(clipped[name], g, rtol=1e-12, err_msg=name)
    assert float(before) == pytest.approx(norm_of(gradients), rel=1e-12)
    assert float(after) == pytest.approx(norm_of(expected), rel=1e-12)


@pytest.mark.parametrize("method", CLIP_METHODS)
def test_without_gradients_there_is_no_norm(method):
    with pytest.raises(ParameterError, match=r"no gradients .* call backward\(\) first"):
        clip(xp, method, {}, {}, 1.0)


@pytest.mark.parametrize("method", CLIP_METHODS)
def test_what_is_small_stays_as_it_is(method):
    gradients, parameters = some(1e-6, seed=0), some(1.0, seed=1)
    clipped, before, after = clip(xp, method, gradients, parameters, 1.0)
    assert flat(clipped) == flat(gradients)
    assert float(before) == float(after)


@pytest.mark.parametrize("method", CLIP_METHODS)
@pytest.mark.parametrize("theta", [1.0, 1e-30, math.inf])
def test_no_method_stumbles_over_zeros_or_an_infinite_theta(method, theta):
    gradients = {"W": np.zeros((2, 2)), "b": np.zeros(2)}
    clipped, before, after = clip(xp, method, gradients, gradients, theta)
    assert flat(clipped) == [0.0] * 6
    assert float(before) == float(after) == 0


@pytest.mark.parametrize("method", CLIP_METHODS)
def test_nothing_that_is_not_a_number_is_hidden(method):
    gradients = {"W": np.array([1.0, math.nan])}
    clipped, before, after = clip(xp, method, gradients, {"W": np.ones(2)}, 1.0)
    assert np.isnan(clipped["W"][1])
    assert math.isnan(before)
    assert math.isnan(after)


@pytest.mark.parametrize(
    ("given", "near"), [("globalnorm", "global_norm"), ("values", "value"), ("agc", None)]
)
def test_an_unknown_method_is_an_error_that_names_the_nearest(given, near):
    with pytest.raises(SettingError, match=f"did you mean '{near}'" if near else "there are: "):
        clip(xp, given, {}, {}, 1.0)
