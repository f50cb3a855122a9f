"""Norms of JAX's arrays against NumPy's in float64, at the ends of every type's range."""

import numpy as np
import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp

from unrolled.backends.jax import norm

VALUES = np.random.default_rng(0).normal(size=(7, 40))


@pytest.mark.parametrize("scale", [1e-35, 1e-25, 1.0, 1e25, 1e35])
@pytest.mark.parametrize("compiled", [False, True])
def test_of_numbers_whose_squares_are_too_large_or_too_small(scale, compiled):
    x = jnp.asarray(scale * VALUES, jnp.float32)
    measure = jax.jit(norm, static_argnums=1) if compiled else norm
    expected = scale * np.linalg.norm(VALUES)
    np.testing.assert_allclose(np.float64(measure(x, None)), expected, rtol=1e-5)
    rows = scale * np.linalg.norm(VALUES, axis=1)
    np.testing.assert_allclose(np.asarray(measure(x, -1), np.float64), rows, rtol=1e-5)


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_half_types_are_summed_in_float32(kind):
    x = jnp.asarray(100 * VALUES, kind)
    expected = np.linalg.norm(np.asarray(x, np.float64))
    assert norm(x).dtype == jnp.float32
    np.testing.assert_allclose(norm(x), expected, rtol=1e-6)


def test_rows_far_apart_do_not_hide_each_other():
    x = jnp.array([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])
    np.testing.assert_allclose(norm(x, -1), [5e-30, 5e30, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        *(([0.0, 0.0], 0.0), ([], 0.0), ([-3e38], 3e38), ([1.0, np.inf], np.inf)),
        *(([1.0, -np.inf], np.inf), ([1.0, np.nan], np.nan), ([np.inf, np.nan], np.nan)),
        *(([3e25 + 4e25j], 5e25), ([0.0 + 3e-25j, 4e-25], 5e-25), (3 + 4j, 5.0)),
    ],
)
def test_zeros_infinity_nan_and_complex_numbers(values, expected):
    np.testing.assert_allclose(norm(jnp.asarray(values)), expected, rtol=1e-6)
