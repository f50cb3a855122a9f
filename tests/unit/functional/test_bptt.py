"""Backpropagation through time against central differences of the formulas, in float64."""

import numpy as np
import pytest

from unrolled.backends.numpy import xp
from unrolled.functional import bptt
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels.analytic_backward import Operations

T, B, D, H = 4, 2, 3, 5
RNG = np.random.default_rng(0)
ALL = [*CELLS.values(), RELU_RNN]
OPERATIONS = Operations(xp)


def setup(cell, ids):
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 0.6, s) for s in cell.shapes(D, H).values()]
    state = tuple(rng.normal(size=(B, H)) for _ in range(cell.num_states))
    X = rng.integers(0, D, (T, B)) if ids else rng.normal(size=(T, B, D))
    # what the loss weighs every output and every last state by
    dY, d_last = rng.normal(size=(T, B, H)), tuple(rng.normal(size=s.shape) for s in state)
    return X, state, weights, dY, d_last


def loss(cell, X, state, weights, dY, d_last):
    outputs, last = cell.forward(xp, X, state, *weights)
    return (outputs * dY).sum() + sum((a * b).sum() for a, b in zip(last, d_last, strict=True))


def central(function, array, h=1e-6):
    gradient = np.empty_like(array)
    for at in np.ndindex(array.shape):
        held = array[at]
        array[at] = held + h
        above = function()
        array[at] = held - h
        gradient[at] = (above - function()) / (2 * h)
        array[at] = held
    return gradient


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("cell", ALL, ids=lambda cell: cell.engine)
def test_the_way_there_gives_what_the_formula_gives(cell, ids):
    X, state, weights, *_ = setup(cell, ids)
    outputs, last = cell.forward(xp, X, state, *weights)
    found, tape = OPERATIONS.tape(cell.engine, X, state, weights)
    np.testing.assert_allclose(tape.new[0], outputs, rtol=1e-12)
    np.testing.assert_allclose(tape.old[0], np.concatenate([state[:1], outputs])[:T], rtol=1e-12)
    for a, b in zip(found, last, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("cell", ALL, ids=lambda cell: cell.engine)
def test_all_gradients_equal_central_differences(cell, ids):
    X, state, weights, dY, d_last = setup(cell, ids)
    outputs, _, kept = OPERATIONS.forward(cell.engine, X, state, weights)
    found = OPERATIONS.backward(cell.engine, X, state, weights, outputs, kept, dY, d_last)

    def value():
        return loss(cell, X, state, weights, dY, d_last)

    for array, gradient in zip((*weights, *state), (*found.weights, *found.state), strict=True):
        np.testing.assert_allclose(gradient, central(value, array), rtol=1e-6, atol=1e-8)
    parts = np.einsum("tbh,tbg->hg", kept[0], found.recurrent)  # (H, G * H)
    by_gate = found.weights[1 : 3 * len(bptt.GATES[cell.engine]) : 3]
    np.testing.assert_allclose(parts, np.concatenate(by_gate, axis=-1), rtol=1e-12)
    if ids:
        assert found.X is None
    else:
        np.testing.assert_allclose(found.X, central(value, X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cell", ALL, ids=lambda cell: cell.engine)
def test_the_gradient_at_every_hidden_state_equals_central_differences(cell):
    # dL/dH_t: run the steps up to t, move H_t, and run the rest
    X, state, weights, dY, d_last = setup(cell, False)
    outputs, _, kept = OPERATIONS.forward(cell.engine, X, state, weights)
    found = OPERATIONS.backward(cell.engine, X, state, weights, outputs, kept, dY, d_last)
    _, tape = OPERATIONS.tape(cell.engine, X, state, weights)
    for t in range(T):
        moved = tuple(new[t].copy() for new in tape.new)

        def rest(t=t, moved=moved):
            here = (moved[0] * dY[t]).sum()
            if t == T - 1:
                return here + sum((m * d).sum() for m, d in zip(moved, d_last, strict=True))
            return here + loss(cell, X[t + 1 :], moved, weights, dY[t + 1 :], d_last)

        np.testing.assert_allclose(
            found.hidden[t], central(rest, moved[0]), rtol=1e-6, atol=1e-8, err_msg=f"step {t}"
        )


def test_the_gates_stand_in_the_order_of_the_weights():
    for cell in ALL:
        letters = [name[-1] for name in cell.weights if name.startswith("W_h")]
        assert "".join(letters) == bptt.GATES[cell.engine]
