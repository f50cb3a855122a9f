"""``watch(loss)`` in JAX: very large, very small and complex numbers, states of any shape."""

import numpy as np
import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp

from unrolled.watch import watch

T, B, D, H = 5, 2, 4, 3


def near(value, rel=1e-5):
    return pytest.approx(value, rel=rel)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_gradients_whose_squares_float32_does_not_hold(scale):
    watched = watch(lambda params: jnp.sum(params["w"]) * scale)
    _, grads, seen = jax.jit(watched)({"w": jnp.ones(4)})
    record = watched.keep(seen.after(grads, grads))
    found = record.parameters["w"]
    assert record.gradient_norm == found.gradient_norm == found.clipped_norm == near(2 * scale)
    assert found.update_ratio == near(scale)
    assert found.finite
    assert record.first_not_finite is None
    assert watched.diagnose() == []


@pytest.mark.parametrize(
    ("w", "scale", "weight_norm", "gradient_norm"),
    [
        (jnp.full(4, 3e38), 0.25, float("inf"), 0.5),  # a norm that float32 does not hold
        (jnp.full(1000, 10, jnp.float16), jnp.float16(2.0), 10 * 1000**0.5, 2 * 1000**0.5),
    ],
)
def test_what_is_finite_stays_so_where_its_norm_is_not(w, scale, weight_norm, gradient_norm):
    watched = watch(lambda params: jnp.sum(params["w"] * scale))
    record = watched.keep(watched({"w": w})[2])
    assert record.parameters["w"].weight_norm == near(weight_norm)
    assert record.parameters["w"].gradient_norm == near(gradient_norm)
    assert record.parameters["w"].finite
    assert record.first_not_finite is None


@pytest.mark.parametrize("factor", [1e-7, 1e7])
def test_gradients_through_time_that_grow_or_shrink_without_end(factor):
    def loss(w):
        h, _ = jax.lax.scan(lambda h, x: (w * h + x, None), jnp.ones((B, H)), jnp.ones((T, B, H)))
        return jnp.sum(h)

    watched = watch(loss)
    layer = watched.keep(watched(jnp.array(factor))[2]).layers["scan0"]
    expected = [3**0.5 * factor**k for k in reversed(range(T))]
    assert layer.hidden_gradient_mean == near(expected, 1e-4)


@pytest.mark.parametrize("shape", [(H,), (B, H), (B, 4, 4, H)])
def test_one_norm_for_every_sequence_whatever_the_shape_of_its_state(shape):
    w = 0.5 + jax.random.uniform(jax.random.key(0), shape[-1:])
    x = jax.random.normal(jax.random.key(1), (T, *shape))

    def loss(w, zeros):
        step = lambda h, x: (jnp.tanh(w * h + x[0]) + x[1], None)  # noqa: E731
        return jnp.sum(jax.lax.scan(step, jnp.zeros(shape), (x, zeros))[0] ** 2)

    watched = watch(lambda w: loss(w, jnp.zeros_like(x)))
    layer = watched.keep(watched(w)[2]).layers["scan0"]
    arrived = np.asarray(jax.grad(loss, 1)(w, jnp.zeros_like(x)))
    batch = shape[0] if len(shape) > 1 else 1
    norms = np.linalg.norm(arrived.reshape(T, batch, -1), axis=2)
    assert layer.hidden_gradient_mean == near(norms.mean(1).tolist())
    assert layer.hidden_gradient_max == near(norms.max(1).tolist())


def test_two_parameters_of_one_name_are_two():
    watched = watch(lambda params: sum(jnp.sum(a**2) for a in jax.tree.leaves(params)))
    params = {"a": {"b": jnp.ones(3)}, "a.b": jnp.full(4, 2.0)}
    record = watched.keep(watched(params)[2])
    assert list(record.parameters) == ["a.b", "a.b#2"]
    assert record.gradient_norm == near((3 * 2**2 + 4 * 4**2) ** 0.5)


def start():
    """A linear recurrent unit: ``h_t = a h_{t-1} + W x_t`` in complex numbers."""
    key = iter(jax.random.split(jax.random.key(0), 9))
    angle = jax.random.uniform(next(key), (H,))
    params = {
        "a": 0.9 * jnp.exp(1j * angle),
        "W": jax.random.normal(next(key), (D, H), dtype=jnp.complex64),
        "out": jax.random.normal(next(key), (H, 1)),
    }
    return params, jax.random.normal(next(key), (T, B, D))


def cell(params, h, x):
    return params["a"] * h + x @ params["W"]


def read(params, h):
    return jnp.sum((h @ params["out"]).real ** 2 + (h @ params["out"]).imag)


def loss(params, x):
    zeros = jnp.zeros((B, H), jnp.complex64)
    return read(params, jax.lax.scan(lambda h, x: (cell(params, h, x), None), zeros, x)[0])


def by_hand(params, x):
    """dL/dRe and dL/dIm of every state, by real zeros added to a loop written out."""

    def unrolled(real, imaginary):
        h = jnp.zeros((B, H), jnp.complex64)
        for t in range(T):
            h = cell(params, h, x[t]) + real[t] + 1j * imaginary[t]
        return read(params, h)

    zeros = jnp.zeros((T, B, H))
    return np.concatenate(jax.grad(unrolled, (0, 1))(zeros, zeros), axis=2)


def test_a_linear_recurrent_unit():
    params, x = start()
    watched = watch(loss)
    value, grads, seen = jax.jit(watched)(params, x)
    expected = jax.grad(loss)(params, x)
    record = watched.keep(seen.after(grads, grads))
    assert record.loss == near(float(value), 1e-4)
    for name, gradient in expected.items():
        found = record.parameters[name]
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-4, atol=1e-4)
        assert found.gradient_norm == near(float(np.linalg.norm(gradient)), 1e-4)
        assert found.clipped_norm == near(float(np.linalg.norm(gradient)), 1e-4)
        assert found.weight_norm == near(float(np.linalg.norm(params[name])), 1e-4)
    norms = np.linalg.norm(by_hand(params, x), axis=2)
    layer = record.layers["scan0"]
    assert layer.hidden_gradient_mean == near(norms.mean(1).tolist(), 1e-4)
    assert layer.hidden_gradient_max == near(norms.max(1).tolist(), 1e-4)
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
