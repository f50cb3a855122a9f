"""The reference is right, and the golden file holds what it says."""

import json
from itertools import pairwise

import make_golden
import numpy as np
import pytest
import reference

CASES = json.loads(make_golden.GOLDEN.read_text())
MODELS = [name for name, case in CASES.items() if "model" in case]


def central_differences(loss, p):
    """The gradient of ``loss(p)``, entry by entry."""
    h = 1e-6
    gradients = {}
    for name, value in p.items():
        gradients[name] = np.empty_like(value)
        for at in np.ndindex(value.shape):
            move = np.zeros_like(value)
            move[at] = h
            above, below = (loss(p | {name: value + sign * move}) for sign in (1, -1))
            gradients[name][at] = (above - below) / (2 * h)
    return gradients


def assert_same_gradients(written_out, by_differences):
    assert list(written_out) == list(by_differences)
    for name, expected in by_differences.items():
        np.testing.assert_allclose(written_out[name], expected, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("2-layers")])
def test_gradients_through_time_equal_finite_differences(name):
    case = CASES[name]
    model = reference.LanguageModel(**case["model"])
    p = {name: np.array(value) for name, value in case["parameters"].items()}
    X, Y = (np.array(ids) for ids in case["minibatches"][0])
    # from a state that is not zero, as in every minibatch but the first
    rng = np.random.default_rng(0)
    state = tuple(rng.normal(0, 0.5, part.shape) for part in model.begin_state(len(X)))
    _, gradients, _ = model.loss_and_gradients(p, X, Y, state)
    expected = central_differences(lambda p: model.loss_and_gradients(p, X, Y, state)[0], p)
    assert_same_gradients(gradients, expected)


def test_gradients_of_linear_regression_equal_finite_differences():
    rng = np.random.default_rng(0)
    p = {"w": rng.normal(size=(2, 1)), "b": rng.normal(size=1)}
    X, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 1))
    _, gradients = reference.linear_regression(p, X, y)
    expected = central_differences(lambda p: reference.linear_regression(p, X, y)[0], p)
    assert_same_gradients(gradients, expected)


def test_linear_regression_on_paper():
    # x w + b - y = 1 * 2 + 1 - 1 = 2 and 2 * 2 + 1 - 1 = 4
    p = {"w": np.array([[2.0]]), "b": np.array([1.0])}
    X, y = np.array([[1.0], [2.0]]), np.array([[1.0], [1.0]])
    loss, gradients = reference.linear_regression(p, X, y)
    assert loss == (2**2 / 2 + 4**2 / 2) / 2
    assert gradients["w"].item() == (2 * 1 + 4 * 2) / 2
    assert gradients["b"].item() == (2 + 4) / 2


def assert_close(found, stored):
    """Equal but for the nine digits of the file, in nested dicts and lists."""
    if isinstance(stored, dict):
        assert list(found) == list(stored)
        for name, value in stored.items():
            assert_close(found[name], value)
    else:
        np.testing.assert_allclose(found, stored, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_golden_file_holds_what_the_reference_computes(name):
    assert_close(reference.expected(CASES[name]), CASES[name]["expected"])


def test_the_golden_file_is_as_make_golden_writes_it_and_small():
    text = make_golden.GOLDEN.read_text()
    assert make_golden.as_json(CASES) + "\n" == text
    assert len(text) < 200_000


def test_the_golden_file_has_every_model_with_one_and_two_layers():
    models = [CASES[name]["model"] for name in MODELS]
    kinds = {(model["cell"], model["num_layers"]) for model in models}
    assert kinds == {(cell, layers) for cell in reference.CELLS for layers in (1, 2)}


@pytest.mark.parametrize("name", CASES)
def test_a_case_clips_one_step_and_not_another_and_is_exact_in_float32(name):
    case = CASES[name]
    clips = [norm > case["theta"] for norm in case["expected"]["gradient_norms"]]
    assert any(clips)
    assert not all(clips)
    assert all(len(X) > 1 for X, _ in case["minibatches"])
    unclipped = reference.expected(case | {"theta": np.inf})["parameters"]
    clipped = case["expected"]["parameters"]  # it would show that clipping was left out
    assert max(np.abs(unclipped[key] - clipped[key]).max() for key in clipped) > 1e-2
    for value in case["parameters"].values():  # exact in float32
        np.testing.assert_array_equal(np.array(value), np.array(value, np.float32))


@pytest.mark.parametrize("name", MODELS)
def test_the_minibatches_of_a_case_continue_each_other(name):
    minibatches = CASES[name]["minibatches"]
    for (_, Y), (X, _) in pairwise(minibatches):
        assert [row[-1] for row in Y] == [row[0] for row in X]
