"""The native kernels in TensorFlow's training steps, and nowhere else."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from unrolled import native  # noqa: E402
from unrolled.backends import tensorflow as backend  # noqa: E402
from unrolled.functional.recurrent import CELLS  # noqa: E402
from unrolled.kernels import recur  # noqa: E402
from unrolled.kernels import tensorflow as kernels  # noqa: E402

usable, reason = native.available()
natively = pytest.mark.skipif(not usable, reason=reason)
cells = pytest.mark.parametrize("cell", CELLS)

# which instructions compute is no matter of the framework; `test_recur.py` has every set
pytestmark = [pytest.mark.usefixtures("instructions"), pytest.mark.best_set]

T, B, D, H = 5, 2, 3, 4


def drawn(cell, dtype="float32"):
    """Parameters by name, the inputs and the state among them."""
    rng = np.random.default_rng(0)
    shapes = CELLS[cell].shapes(D, H) | {"X": (T, B, D)}
    shapes |= {f"state.{i}": (B, H) for i in range(CELLS[cell].num_states)}
    return {name: tf.constant(rng.normal(size=s).astype(dtype)) for name, s in shapes.items()}


def outputs_of(cell, engine):
    def outputs(p, X=None):
        state = tuple(p[f"state.{i}"] for i in range(CELLS[cell].num_states))
        weights = [p[name] for name in CELLS[cell].weights]
        return recur(backend, CELLS[cell], p["X"] if X is None else X, state, weights, engine)

    return outputs


def step(cell, engine):
    """The loss and its gradients, as a function for TensorFlow to compile."""
    outputs = outputs_of(cell, engine)

    def loss(p, X=None):
        found, last = outputs(p, X)
        assert found.shape == (T, B, H)
        return tf.reduce_sum(found**2) + sum(tf.reduce_sum(part) for part in last), last

    return tf.function(backend.value_and_grad(loss))


def calls_back(function, *arguments):
    graph = function.get_concrete_function(*arguments).graph
    return any("PyFunc" in operation.type for operation in graph.get_operations())


def assert_near(found, expected, tolerance=2e-5):
    for ours, theirs in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@natively
@cells
def test_training_steps_have_them_and_other_graphs_do_not(cell):
    assert calls_back(step(cell, "fast"), drawn(cell))
    # such a graph may be saved, and run where there is nothing to call back
    assert not calls_back(tf.function(outputs_of(cell, "fast")), drawn(cell))


@natively
def test_auto_has_them_where_the_work_is_worth_it(monkeypatch):
    assert not calls_back(step("rnn", "auto"), drawn("rnn"))
    monkeypatch.setattr(kernels, "SMALLEST_WORK", T * B * H * H)
    assert calls_back(step("rnn", "auto"), drawn("rnn"))
    monkeypatch.setattr(kernels, "SMALLEST_WORK", T * B * H * H + 1)
    assert not calls_back(step("rnn", "auto"), drawn("rnn"))


@natively
def test_half_precision_and_gpus_are_left_to_tensorflow(monkeypatch):
    assert not calls_back(step("rnn", "fast"), drawn("rnn", "float16"))
    monkeypatch.setattr(kernels, "devices", lambda _: ["GPU:0"])
    assert not calls_back(step("rnn", "fast"), drawn("rnn"))


@cells
def test_without_them_the_passes_are_tensorflows_own(cell):
    expected = step(cell, "reference")(drawn(cell))
    with native.using("off"):
        found = step(cell, "fast")
        assert not calls_back(found, drawn(cell))
        assert_near(found(drawn(cell)), expected)


@natively
@cells
def test_float64_to_the_last_digits(cell):
    p = drawn(cell, "float64")
    ids = tf.constant(np.random.default_rng(1).integers(0, D, (T, B)))
    for inputs in (p["X"], ids, tf.cast(ids, tf.int32)):
        expected = step(cell, "reference")(p, inputs)
        assert_near(step(cell, "fast")(p, inputs), expected, 1e-12)


@natively
def test_many_steps_in_one_graph():
    p = drawn("gru")
    one = step("gru", "fast").python_function

    @tf.function
    def trained(W):
        for _ in tf.range(500):
            W = W - 1e-3 * one(p | {"W_hh": W})[1]["W_hh"]
        return W

    W = p["W_hh"]
    reference = step("gru", "reference")
    for _ in range(500):
        W = W - 1e-3 * reference(p | {"W_hh": W})[1]["W_hh"]
    assert_near(trained(p["W_hh"]), W, 1e-3)
