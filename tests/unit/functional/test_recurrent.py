import math

import numpy as np
import pytest

from unrolled.backends.numpy import xp
from unrolled.functional.recurrent import CELLS

T, B, D, H = 4, 3, 5, 2


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def dot(row, W, column):
    return sum(row[i] * W[i, column] for i in range(len(row)))


def preactivation(x, h, W_x, W_h, b):
    return [dot(x, W_x, j) + dot(h, W_h, j) + b[j] for j in range(len(b))]


def rnn_by_hand(x, state, W_xh, W_hh, b_h):
    (h,) = state
    return ([math.tanh(a) for a in preactivation(x, h, W_xh, W_hh, b_h)],)


def gru_by_hand(x, state, W_xz, W_hz, b_z, W_xr, W_hr, b_r, W_xh, W_hh, b_h, b_hh=None):
    (h,) = state
    z = [sigmoid(a) for a in preactivation(x, h, W_xz, W_hz, b_z)]
    r = [sigmoid(a) for a in preactivation(x, h, W_xr, W_hr, b_r)]
    new = []
    for j in range(len(h)):
        if b_hh is None:
            recurrent = dot([r[i] * h[i] for i in range(len(h))], W_hh, j)
        else:
            recurrent = r[j] * (dot(h, W_hh, j) + b_hh[j])
        candidate = math.tanh(dot(x, W_xh, j) + b_h[j] + recurrent)
        new.append(z[j] * h[j] + (1 - z[j]) * candidate)
    return (new,)


def lstm_by_hand(x, state, *weights):
    h, c = state
    a_i, a_f, a_o, a_c = (preactivation(x, h, *weights[k : k + 3]) for k in (0, 3, 6, 9))
    new_c = [sigmoid(a_f[j]) * c[j] + sigmoid(a_i[j]) * math.tanh(a_c[j]) for j in range(len(h))]
    return [sigmoid(a_o[j]) * math.tanh(new_c[j]) for j in range(len(h))], new_c


CASES = [
    pytest.param("rnn", CELLS["rnn"].weights, rnn_by_hand, id="rnn"),
    pytest.param("gru", CELLS["gru"].weights, gru_by_hand, id="gru-reset-after"),
    pytest.param("gru", CELLS["gru"].weights[:-1], gru_by_hand, id="gru-reset-before"),
    pytest.param("lstm", CELLS["lstm"].weights, lstm_by_hand, id="lstm"),
]


def draw(name, weights, seed=0):
    rng = np.random.default_rng(seed)
    shapes = CELLS[name].shapes(D, H)
    state = tuple(rng.normal(size=(B, H)) for _ in range(CELLS[name].num_states))
    return rng.normal(size=(T, B, D)), state, [rng.normal(size=shapes[w]) for w in weights]


@pytest.mark.parametrize(("name", "names", "by_hand"), CASES)
def test_every_step_is_the_equation(name, names, by_hand):
    X, state, weights = draw(name, names)
    before = [part.copy() for part in state]
    outputs, last = CELLS[name].forward(xp, X, state, *weights)
    np.testing.assert_array_equal(state, before)  # it is not written to
    assert outputs.shape == (T, B, H)
    assert len(last) == CELLS[name].num_states
    for b in range(B):
        expected = tuple(part[b] for part in state)
        for t in range(T):
            expected = by_hand(X[t, b], expected, *weights)
            np.testing.assert_allclose(outputs[t, b], expected[0], rtol=1e-10)
        for part, expected_part in zip(last, expected, strict=True):
            np.testing.assert_allclose(part[b], expected_part, rtol=1e-10)


@pytest.mark.parametrize(("name", "names", "by_hand"), CASES)
def test_huge_inputs_saturate_without_a_warning(name, names, by_hand):
    X, state, weights = draw(name, names)
    outputs, _ = CELLS[name].forward(xp, X * 1e6, state, *weights)
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize(
    ("name", "expected", "num_states"),
    [
        ("rnn", "W_xh W_hh b_h", 1),
        ("gru", "W_xz W_hz b_z W_xr W_hr b_r W_xh W_hh b_h b_hh", 1),
        ("lstm", "W_xi W_hi b_i W_xf W_hf b_f W_xo W_ho b_o W_xc W_hc b_c", 2),
    ],
)
def test_shapes_name_every_weight_in_the_order_of_the_formula(name, expected, num_states):
    cell = CELLS[name]
    shapes = cell.shapes(num_inputs=28, num_hiddens=256)
    assert list(shapes) == list(cell.weights) == expected.split()
    assert cell.num_states == num_states
    for weight, shape in shapes.items():
        kind = {"W_x": (28, 256), "W_h": (256, 256)}.get(weight[:3], (256,))
        assert shape == kind
