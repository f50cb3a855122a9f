import dataclasses
import math

import numpy as np
import pytest

from installed import FRAMEWORK
from unrolled import selfcheck
from unrolled.functional import recurrent
from unrolled.functional.updates import global_norm
from unrolled.models.language_model import RecurrentNetwork


def no_clipping(xp, gradients, theta):
    return dict(gradients), global_norm(xp, gradients.values())


def clipping_of_each_array_by_itself(xp, gradients, theta):
    scales = {n: min(1, theta / float(global_norm(xp, [g]))) for n, g in gradients.items()}
    return {n: g * scales[n] for n, g in gradients.items()}, global_norm(xp, gradients.values())


def uphill(parameter, gradient, lr):
    return parameter + lr * gradient


def replace_in_selfcheck(name, function):
    return lambda monkeypatch: monkeypatch.setattr(selfcheck, name, function)


def replace_cell(name, forward):
    cell = dataclasses.replace(recurrent.CELLS[name], forward=forward)
    return lambda monkeypatch: monkeypatch.setitem(recurrent.CELLS, name, cell)


def gru_with_the_reset_before_the_product(xp, X, state, *weights):
    return recurrent.gru(xp, X, state, *weights[:-1])  # without b_hh


def lstm_with_input_and_forget_gate_exchanged(xp, X, state, *weights):
    return recurrent.lstm(xp, X, state, *weights[3:6], *weights[:3], *weights[6:])


def rnn_that_forgets_its_state(xp, X, state, *weights):
    outputs, state = recurrent.rnn(xp, X, state, *weights)
    return outputs, tuple(xp.zeros_like(part) for part in state)


BREAKAGES = {
    "no clipping": replace_in_selfcheck("clip_by_global_norm", no_clipping),
    "clipping of each array by itself": replace_in_selfcheck(
        "clip_by_global_norm", clipping_of_each_array_by_itself
    ),
    "a step uphill": replace_in_selfcheck("sgd", uphill),
    "the other GRU": replace_cell("gru", gru_with_the_reset_before_the_product),
    "gates exchanged": replace_cell("lstm", lstm_with_input_and_forget_gate_exchanged),
    "the state forgotten": replace_cell("rnn", rnn_that_forgets_its_state),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_formula_makes_a_large_difference(monkeypatch, breakage):
    BREAKAGES[breakage](monkeypatch)
    assert selfcheck.compare(FRAMEWORK) > 100 * selfcheck.ROUNDING


def test_a_nan_anywhere_is_the_result(monkeypatch):
    def nan_for_the_gru(xp, X, state, *weights):
        outputs, state = recurrent.gru(xp, X, state, *weights)
        return outputs * math.nan, state

    replace_cell("gru", nan_for_the_gru)(monkeypatch)
    assert math.isnan(selfcheck.compare(FRAMEWORK))


def test_a_state_of_another_shape_is_an_infinite_difference(monkeypatch):
    def one_row(self, batch_size, num_hiddens, device=None):
        return original(self, 1, num_hiddens, device)

    def last_row(xp, X, state, *weights):
        outputs, state = recurrent.rnn(xp, X, state, *weights)
        return outputs, tuple(part[-1:] for part in state)

    original = RecurrentNetwork.begin_state
    monkeypatch.setattr(RecurrentNetwork, "begin_state", one_row)
    replace_cell("rnn", last_row)(monkeypatch)
    monkeypatch.setattr(selfcheck, "engines", lambda framework: ("reference",))
    assert selfcheck.compare(FRAMEWORK) == math.inf


def test_the_difference_is_relative_to_the_largest_entry():
    assert selfcheck.difference([100.0, 1.0], [100.0, 2.0]) == 0.01
    assert selfcheck.difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert selfcheck.difference(np.ones(1), 1.0) == math.inf
    assert math.isnan(selfcheck.difference([math.nan, 1.0], [1.0, 1.0]))


def test_a_gradient_that_is_missing_is_not_passed_over():
    case = selfcheck.golden()["linear-regression"]
    expected = case["expected"]
    outcome = selfcheck.Outcome(**expected)
    assert set(outcome.differences(expected).values()) == {0.0}
    without = dataclasses.replace(outcome, first_gradients={"w": expected["first_gradients"]["w"]})
    assert without.differences(expected)["first_gradients[b]"] == math.inf
