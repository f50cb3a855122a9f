import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unrolled.backends.numpy import xp
from unrolled.functional.losses import (
    absolute_loss,
    accuracy,
    cross_entropy,
    huber_loss,
    perplexity,
    squared_loss,
)

ordinary = st.floats(-50, 50)


def test_squared_loss_is_half_the_mean_of_the_squares():
    y_hat, y = np.array([[1.0], [2.0], [-1.0]]), np.array([[0.0], [4.0], [-1.5]])
    assert squared_loss(xp, y_hat, y) == pytest.approx((1 + 4 + 0.25) / 2 / 3)


def test_squared_and_absolute_loss_reshape_targets_instead_of_broadcasting():
    y_hat, y = np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 3.0])
    assert squared_loss(xp, y_hat, y) == 0.0
    assert absolute_loss(xp, y_hat, y + np.array([1.0, -4.0, 0.0])) == pytest.approx(5 / 3)


@given(arrays(np.float64, (3, 5), elements=ordinary), st.lists(st.integers(0, 4), min_size=3))
def test_cross_entropy_is_the_mean_negative_log_of_the_softmax(logits, targets):
    targets = targets[:3]
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        weights = [math.exp(x) for x in row]
        total -= math.log(weights[target] / sum(weights))
    result = float(cross_entropy(xp, logits, np.array(targets)))
    assert result == pytest.approx(total / 3, rel=1e-9, abs=1e-9)


@given(arrays(np.float64, (3, 5), elements=ordinary))
def test_cross_entropy_without_the_mean_is_that_of_each_row(logits):
    found = cross_entropy(xp, logits, np.array([4, 0, 2]), averaged=False)
    each = [cross_entropy(xp, logits[i : i + 1], np.array([t])) for i, t in enumerate((4, 0, 2))]
    np.testing.assert_allclose(found, each)


@given(arrays(np.float64, (3, 5), elements=ordinary), st.lists(st.integers(0, 4), min_size=3))
def test_accuracy_is_the_share_of_rows_with_the_target_on_top(logits, targets):
    targets = np.array(targets[:3])
    right = [float(row.argmax() == target) for row, target in zip(logits, targets, strict=True)]
    assert accuracy(xp, logits, targets, averaged=False).tolist() == right
    assert accuracy(xp, logits, targets) == pytest.approx(sum(right) / 3)


@given(arrays(np.float64, (2, 4), elements=ordinary), st.floats(-1e4, 1e4))
def test_cross_entropy_does_not_see_a_common_shift_of_the_logits(logits, shift):
    targets = np.array([0, 3])
    result = float(cross_entropy(xp, logits + shift, targets))
    assert result == pytest.approx(float(cross_entropy(xp, logits, targets)), abs=1e-7)


@pytest.mark.parametrize(("target", "expected"), [(0, 0.0), (1, 2000.0)])
def test_cross_entropy_of_huge_logits_is_finite_and_exact(target, expected):
    logits = np.array([[1000.0, -1000.0]])  # a plain softmax gives inf / inf or log 0 here
    assert float(cross_entropy(xp, logits, np.array([target]))) == expected


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        *((math.log(size), pytest.approx(size)) for size in (1, 2, 28, 1000)),
        (0.0, 1.0),
        (1e6, math.inf),
        (math.inf, math.inf),
        (math.nan, pytest.approx(math.nan, nan_ok=True)),
    ],
)
def test_perplexity_is_the_exponential_and_infinite_beyond_all_floats(nats, expected):
    assert perplexity(nats) == expected


@given(st.floats(-50, 50), st.floats(0.1, 10))
def test_huber_is_its_two_pieces(error, sigma):
    expected = error**2 / (2 * sigma) if abs(error) <= sigma else abs(error) - sigma / 2
    found = huber_loss(xp, np.array([error]), np.array([0.0]), sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
