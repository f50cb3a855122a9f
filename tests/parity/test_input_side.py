"""Ids give what their one-hot rows give, gradients too, on both ways through `input_side`."""

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from unrolled.frameworks import load
from unrolled.functional.losses import cross_entropy
from unrolled.functional.recurrent import CELLS, input_side
from unrolled.models.language_model import RecurrentNetwork

T, H = 3, 4
SIZES = {"step by step": (4, 3), "all at once": (9, 2)}  # V, B


@pytest.mark.parametrize(("V", "B"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(
    ("framework", "cell"),
    [*((FRAMEWORK, cell) for cell in CELLS), *((name, "gru") for name in INSTALLED[1:])],
)
def test_ids_and_one_hot_rows_have_the_same_loss_and_gradients(framework, cell, V, B):
    backend = load(framework).backend
    network = RecurrentNetwork(backend, cell)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, V, (T, B))
    targets = backend.asarray(rng.integers(0, V, T * B))
    params = {
        n: backend.to_numpy(p) for n, p in network.initial_parameters(V, H, sigma=0.5).items()
    }

    def outcome(inputs):
        def loss(parameters):
            logits, state = network.forward(inputs, network.begin_state(B, H), parameters)
            return cross_entropy(backend.xp, logits, targets), state

        (value, _), gradients = backend.value_and_grad(loss)(backend.initialize(params))
        return float(value), {n: backend.to_numpy(g) for n, g in gradients.items()}

    loss, gradients = outcome(backend.asarray(ids))
    expected_loss, expected = outcome(backend.asarray(np.eye(V, dtype=np.float32)[ids]))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert gradients.keys() == expected.keys() == params.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("V", "B"), SIZES.values(), ids=SIZES)
def test_the_sizes_take_different_ways(V, B):
    from unrolled.backends.numpy import xp

    ids = np.zeros((T, B), dtype=int)
    inputs, _ = input_side(xp, ids, (np.zeros((V, H)), np.zeros(H)))
    assert (inputs is ids) == (V <= 2 * B)
