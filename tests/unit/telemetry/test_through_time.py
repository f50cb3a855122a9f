import math

import numpy as np
import pytest

from unrolled.backends.numpy import xp
from unrolled.telemetry.build_records import layer_record
from unrolled.telemetry.measures import all_rounded, changes, coefficient, norms, rounded
from unrolled.telemetry.through_time import (
    decay_per_step,
    hidden_gradient_norms,
    horizon_steps,
    layer_numbers,
    saturated_share,
    weight_gradient_per_step,
)

T, B, H, G = 5, 3, 4, 3


def arrays(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(T, B, n)).astype(dtype) for n in (H, G * H))


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1.0, 1e18, 1e30])
def test_norms_neither_vanish_nor_overflow_before_the_numbers_do(scale):
    dH, _ = arrays(dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = hidden_gradient_norms(xp, dH * np.float32(scale))
    np.testing.assert_allclose(found, hidden_gradient_norms(xp, dH) * scale, rtol=1e-5)


@pytest.mark.parametrize("zeros", [[], [-1], slice(None)], ids=["none", "last step", "all"])
def test_norms_are_those_of_every_step_and_sequence(zeros):
    dH, D = arrays()
    dH[zeros] = 0
    expected = np.linalg.norm(dH, axis=2)
    np.testing.assert_allclose(hidden_gradient_norms(xp, dH), expected, rtol=1e-12)
    assert weight_gradient_per_step(xp, dH, D)[zeros].sum() == 0


def test_split_is_the_norm_of_every_part():
    H_before, D = arrays()
    expected = [np.linalg.norm(part) for part in np.einsum("tbh,tbg->thg", H_before, D)]
    np.testing.assert_allclose(weight_gradient_per_step(xp, H_before, D), expected, rtol=1e-12)


def test_parts_that_cancel_over_the_batch_leave_no_root_of_less_than_nothing():
    rng = np.random.default_rng(0)
    H_before = np.repeat(rng.normal(size=(T, 1, H)), 2, axis=1).astype(np.float32)
    D = rng.normal(size=(T, 1, H)).astype(np.float32)
    split = weight_gradient_per_step(xp, H_before, np.concatenate([D, -D], axis=1))
    assert np.isfinite(split).all()
    assert (split < 1e-2).all()


@pytest.mark.parametrize(
    ("cell", "share"), [("rnn", 0.5), ("gru", 0.5), ("lstm", 0.5), ("rnn_relu", 0.25)]
)
def test_saturated_are_units_near_one_and_dead_ones_of_relu(cell, share):
    values = np.array([[0.995, -1.0], [0.0, 0.5]]) if cell != "rnn_relu" else np.eye(2) + 1
    values[0, 1] = 0.0 if cell == "rnn_relu" else values[0, 1]
    assert float(saturated_share(xp, values, cell)) == share


def test_a_layers_numbers_lie_side_by_side():
    dH, D = arrays()
    H_before, after = np.tanh(dH), np.full((T, B, H), 0.5)
    after[0] = 1
    numbers = layer_numbers(xp, "gru", dH, D, H_before, after)
    each = hidden_gradient_norms(xp, dH)
    expected = [*each.mean(1), *each.max(1), *weight_gradient_per_step(xp, H_before, D), 1 / T]
    np.testing.assert_allclose(numbers, expected, rtol=1e-7)  # the share is float32


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.7])
def test_a_geometric_fall_is_found(factor):
    n = [5 * factor ** (9 - t) for t in range(10)]
    assert decay_per_step(n) == pytest.approx(factor)
    reached = max(k for k in range(10) if factor**k >= 0.01)
    assert horizon_steps(n) == reached


def test_all_the_way_is_not_all_but_one():
    assert horizon_steps([0.001, 0.5, 1.0]) == 1
    assert horizon_steps([0.5, 0.5, 1.0]) == 2
    assert horizon_steps([0.5, 0.001, 1.0]) == 0


@pytest.mark.parametrize("last", [0.0, math.nan, math.inf])
def test_a_last_norm_of_zero_reaches_nowhere_and_has_no_decay(last):
    assert horizon_steps([1.0, 1.0, last]) is None
    assert decay_per_step([1.0, last]) in (None, 0.0)
    assert decay_per_step([1.0]) is decay_per_step([math.inf, 1.0]) is None


def numbers_of(mean):
    return [*mean, *(2 * m for m in mean), *(3 * m for m in mean), 0.5]


def test_pieces_of_a_sequence_are_put_together():
    pieces = [numbers_of([1.0, 2.0]), numbers_of([3.0, 6.0]), numbers_of([7.0])]
    record = layer_record(pieces, [2, 4], cell="rnn")
    assert record.hidden_gradient_mean == [1, 2, 3, 6, 7]
    assert record.hidden_gradient_max == [2, 4, 6, 12, 14]
    assert record.weight_gradient_per_step == [3, 6, 9, 18, 21]
    assert record.truncation_points == [2, 4]
    assert record.saturated == 0.5
    assert (record.decay_per_step, record.horizon_steps) == (None, 0)  # the last piece is one step
    record = layer_record(pieces[:2], [0, 2], cell="rnn")
    assert record.truncation_points == [0, 2]
    assert (record.decay_per_step, record.horizon_steps) == (0.5, 1)


def test_a_backward_layer_is_turned_to_the_order_of_the_text():
    record = layer_record([numbers_of([1.0, 2.0, 8.0])], reverse=True, cell="rnn")
    assert record.hidden_gradient_mean == [8, 2, 1]
    assert record.weight_gradient_per_step == [24, 6, 3]
    assert record.decay_per_step == pytest.approx(8**-0.5)  # from step 0, which it reads last
    assert record.horizon_steps == 2


def test_norms_and_changes():
    new, old = [np.array([3.0, 4.0]), np.ones((2, 2))], [np.zeros(2), np.zeros((2, 2))]
    np.testing.assert_allclose(norms(xp, new), [5, 2])
    np.testing.assert_allclose(changes(xp, new, old), [5, 2])


def test_numbers_keep_seven_digits():
    assert rounded(float(np.float32(0.1))) == 0.1
    assert rounded(1234567.89) == 1234568
    assert math.isnan(rounded(math.nan))
    assert all_rounded([-1234567.89, 0.0, 1e-300, math.inf]) == [-1234568, 0, 1e-300, math.inf]


def test_the_coefficient_is_the_quotient_of_the_norms():
    assert coefficient(8.0, 2.0) == 0.25
    assert coefficient(0.0, 0.0) == coefficient(math.inf, 3.0) == 1
