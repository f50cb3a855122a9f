"""The English edition's short names do what NumPy's functions do, on every framework."""

from typing import Any

import numpy as np
import pytest

x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)

CALLS = {
    "exp": (lambda d, x: d.exp(x), np.exp(x)),
    "sin": (lambda d, x: d.sin(x), np.sin(x)),
    "tanh": (lambda d, x: d.tanh(x), np.tanh(x)),
    "sigmoid": (lambda d, x: d.sigmoid(x), 1 / (1 + np.exp(-x))),
    "matmul": (lambda d, x: d.matmul(x, d.transpose(x)), x @ x.T),
    "concat": (lambda d, x: d.concat((x, x), 1), np.concatenate((x, x), 1)),
    "stack": (lambda d, x: d.stack([x, 2 * x], 1), np.stack([x, 2 * x], 1)),
    "swapaxes": (lambda d, x: d.swapaxes(x, 0, 1), x.T),
    "reshape": (lambda d, x: d.reshape(x, (3, 2)), x.reshape(3, 2)),
    "argmax": (lambda d, x: d.argmax(x, axis=1), x.argmax(1)),
    "reduce_mean": (lambda d, x: d.reduce_mean(x), x.mean()),
    "arange": (lambda d, x: d.arange(1, 4), np.arange(1, 4)),
    "ones": (lambda d, x: d.ones((2, 3), dtype=d.int32), np.ones((2, 3))),
    "zeros": (lambda d, x: d.zeros((2, 3)), np.zeros((2, 3))),
    "to": (lambda d, x: d.to(x, d.cpu()), x),
    "tensor": (lambda d, x: d.tensor([[1.0, 2.0]]), np.array([[1.0, 2.0]])),
}


@pytest.mark.parametrize("call", CALLS)
def test_short_names_are_the_functions(d2l: Any, call: str) -> None:
    function, truth = CALLS[call]
    found = d2l.numpy(function(d2l, d2l.tensor(x)))
    assert found.shape == truth.shape
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)


def test_draws_follow_the_frameworks_seed(d2l: Any) -> None:

    def draw() -> Any:
        if d2l.backend.name == "jax":
            import jax

            return d2l.numpy(jax.random.normal(d2l.get_key(), (50, 40)))
        return d2l.numpy(d2l.randn(50, 40))

    d2l.backend.seed(3)
    first, other = draw(), draw()
    d2l.backend.seed(3)
    np.testing.assert_array_equal(draw(), first)
    assert not np.array_equal(other, first)
    assert abs(first.mean()) < 0.1
    assert 0.9 < first.std() < 1.1
