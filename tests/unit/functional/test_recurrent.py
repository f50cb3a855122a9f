import math

import numpy as np
import pytest

from unrolled.backends.numpy import xp
from unrolled.functional.recurrent import CELLS, gru, lstm, rnn

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
    outputs, last = CELLS[name].forward(xp, X, state, *weights)
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
def test_ids_equal_one_hot_inputs(name, names, by_hand):
    _, state, weights = draw(name, names)
    ids = np.random.default_rng(3).integers(0, D, (T, B))
    one_hot = np.zeros((T, B, D))
    for t in range(T):
        for b in range(B):
            one_hot[t, b, ids[t, b]] = 1.0
    outputs, last = CELLS[name].forward(xp, ids, state, *weights)
    expected_outputs, expected_last = CELLS[name].forward(xp, one_hot, state, *weights)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-12)
    for part, expected_part in zip(last, expected_last, strict=True):
        np.testing.assert_allclose(part, expected_part, rtol=1e-12)


@pytest.mark.parametrize(("name", "names", "by_hand"), CASES)
def test_carrying_the_state_equals_one_long_sequence(name, names, by_hand):
    X, state, weights = draw(name, names)
    forward = CELLS[name].forward
    outputs, last = forward(xp, X, state, *weights)
    first_outputs, middle = forward(xp, X[:1], state, *weights)
    second_outputs, end = forward(xp, X[1:], middle, *weights)
    np.testing.assert_allclose(np.concatenate([first_outputs, second_outputs]), outputs)
    np.testing.assert_allclose(end, last)


@pytest.mark.parametrize(("name", "names", "by_hand"), CASES)
def test_the_given_state_is_not_overwritten(name, names, by_hand):
    X, state, weights = draw(name, names)
    before = [part.copy() for part in state]
    CELLS[name].forward(xp, X, state, *weights)
    np.testing.assert_array_equal(state, before)


@pytest.mark.parametrize(("name", "names", "by_hand"), CASES)
def test_huge_inputs_saturate_without_a_warning(name, names, by_hand):
    X, state, weights = draw(name, names)
    outputs, _ = CELLS[name].forward(xp, X * 1e6, state, *weights)
    assert np.isfinite(outputs).all()


W = np.array([[0.1, 0.2], [0.1, 0.2]])
U = np.array([[0.0, 0.1], [0.1, 0.0]])
BIAS = np.array([0.1, 0.1])
ZEROS = np.zeros((1, 2))


def test_rnn_gives_the_published_fixed_case():
    X = np.array([[[1.0, 0.0]], [[0.0, 2.0]]])
    _, (h,) = rnn(xp, X, (ZEROS,), W, U, BIAS)
    np.testing.assert_allclose(h, [[0.31774, 0.47750]], atol=5e-6)


def test_lstm_gives_the_published_fixed_case():
    _, (h, _) = lstm(xp, np.array([[[1.0, 0.0]]]), (ZEROS, ZEROS), *[W, U, BIAS] * 4)
    np.testing.assert_allclose(h, [[0.05944, 0.09524]], atol=5e-6)


def gru_weights(b_z=0.0, b_r=0.0):
    names = CELLS["gru"].weights
    X, state, weights = draw("gru", names, seed=5)
    by_name = dict(zip(names, weights, strict=True))
    by_name["b_z"] = by_name["b_z"] + b_z
    by_name["b_r"] = by_name["b_r"] + b_r
    by_name["b_hh"] = np.zeros(H)
    return X, state, list(by_name.values())


def test_gru_conventions_differ_while_the_reset_gate_is_half_open():
    X, state, weights = gru_weights()
    after, _ = gru(xp, X, state, *weights)
    before, _ = gru(xp, X, state, *weights[:-1])
    assert np.abs(after - before).max() > 1e-2


def test_gru_conventions_agree_while_the_reset_gate_is_open():
    X, state, weights = gru_weights(b_r=100.0)
    after, _ = gru(xp, X, state, *weights)
    before, _ = gru(xp, X, state, *weights[:-1])
    np.testing.assert_allclose(after, before, rtol=1e-12)


def test_gru_keeps_its_state_while_the_update_gate_is_one():
    X, state, weights = gru_weights(b_z=100.0)
    outputs, _ = gru(xp, X, state, *weights)
    np.testing.assert_allclose(outputs, np.broadcast_to(state[0], (T, B, H)), rtol=1e-12)


def test_gru_forgets_its_state_while_both_gates_are_zero():
    X, state, weights = gru_weights(b_z=-100.0, b_r=-100.0)
    W_xh, b_h = weights[6], weights[8]
    outputs, _ = gru(xp, X, state, *weights)
    np.testing.assert_allclose(outputs, np.tanh(X @ W_xh + b_h), rtol=1e-12)


def test_lstm_keeps_its_cell_state_while_it_forgets_nothing_and_takes_nothing_in():
    names = CELLS["lstm"].weights
    X, state, weights = draw("lstm", names, seed=6)
    weights[names.index("b_f")] = weights[names.index("b_f")] + 100.0
    weights[names.index("b_i")] = weights[names.index("b_i")] - 100.0
    _, (_, c) = lstm(xp, X, state, *weights)
    np.testing.assert_allclose(c, state[1], rtol=1e-12)


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
