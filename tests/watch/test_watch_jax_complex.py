"""``watch(loss)`` in JAX: complex parameters and states, and states that cannot saturate."""

import numpy as np
import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp

from unrolled.watch import watch

T, B, D, H = 6, 4, 3, 5


def near(value, rel=1e-4):
    return pytest.approx(value, rel=rel)


def start(scale=1.0):
    """A linear recurrent unit: ``h_t = a h_{t-1} + W x_t`` in complex numbers."""
    key = iter(jax.random.split(jax.random.key(0), 9))
    angle = jax.random.uniform(next(key), (H,))
    params = {
        "a": 0.9 * jnp.exp(1j * angle),
        "W": jax.random.normal(next(key), (D, H), dtype=jnp.complex64),
        "out": jax.random.normal(next(key), (H, 1)),
    }
    return params, scale * jax.random.normal(next(key), (T, B, D))


def cell(params, h, x):
    return params["a"] * h + x @ params["W"]


def loss(params, x):
    h, _ = jax.lax.scan(
        lambda h, x: (cell(params, h, x), None), jnp.zeros((B, H), jnp.complex64), x
    )
    return jnp.sum((h @ params["out"]).real ** 2 + (h @ params["out"]).imag)


def by_hand(params, x):
    """dL/dRe and dL/dIm of every state, by real zeros added to a loop written out."""

    def unrolled(real, imaginary):
        h = jnp.zeros((B, H), jnp.complex64)
        for t in range(T):
            h = cell(params, h, x[t]) + real[t] + 1j * imaginary[t]
        return jnp.sum((h @ params["out"]).real ** 2 + (h @ params["out"]).imag)

    zeros = jnp.zeros((T, B, H))
    return np.concatenate(jax.grad(unrolled, (0, 1))(zeros, zeros), axis=2)


def test_a_linear_recurrent_unit():
    params, x = start()
    watched = watch(loss)
    value, grads, seen = jax.jit(watched)(params, x)
    expected = jax.grad(loss)(params, x)
    record = watched.keep(seen.after(grads, grads))
    assert record.loss == near(float(value))
    for name, gradient in expected.items():
        found = record.parameters[name]
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-4, atol=1e-4)
        assert found.gradient_norm == near(float(np.linalg.norm(gradient)))
        assert found.clipped_norm == near(float(np.linalg.norm(gradient)))
        assert found.weight_norm == near(float(np.linalg.norm(params[name])))
    norms = np.linalg.norm(by_hand(params, x), axis=2)
    layer = record.layers["scan0"]
    assert layer.hidden_gradient_mean == near(norms.mean(1).tolist())
    assert layer.hidden_gradient_max == near(norms.max(1).tolist())
    assert layer.decay_per_step == near(0.9, 1e-2)
    assert watched.notes == {}


@pytest.mark.parametrize(
    ("activation", "share"), [(jnp.tanh, 1.0), (jax.nn.relu, 0.0), (lambda x: x, 0.0)]
)
def test_only_states_that_keep_to_one_are_saturated(activation, share):
    def loss(w):
        step = lambda h, x: (activation(w * x + h), None)  # noqa: E731
        return jnp.sum(jax.lax.scan(step, jnp.zeros((B, H)), jnp.full((T, B, H), 8.0))[0])

    watched = watch(loss)
    record = watched.keep(watched(jnp.array(1.0))[2])
    assert record.layers["scan0"].saturated == share
