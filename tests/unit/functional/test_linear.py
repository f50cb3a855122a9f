import numpy as np
import pytest

from unrolled.backends.numpy import xp
from unrolled.functional.linear import affine


def by_hand(X, W, b):
    out = np.empty((len(X), W.shape[1]))
    for n, row in enumerate(X):
        for h in range(W.shape[1]):
            out[n, h] = b[h] + sum(row[d] * W[d, h] for d in range(W.shape[0]))
    return out


@pytest.mark.parametrize("shape", [(5, 3), (6, 2, 3)])
def test_affine_sums_products_adds_the_bias_and_keeps_leading_axes(shape):
    rng = np.random.default_rng(1)
    X, W, b = rng.normal(size=shape), rng.normal(size=(3, 4)), rng.normal(size=4)
    result = affine(xp, X, W, b)
    assert result.shape == (*shape[:-1], 4)
    np.testing.assert_allclose(result.reshape(-1, 4), by_hand(X.reshape(-1, 3), W, b), rtol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_ids_equal_one_hot_rows(shape, dtype):
    rng = np.random.default_rng(2)
    W, b = rng.normal(size=(5, 3)), rng.normal(size=3)
    ids = rng.integers(0, 5, shape).astype(dtype)
    one_hot = np.zeros((*shape, 5))
    for place in np.ndindex(shape):
        one_hot[(*place, ids[place])] = 1.0
    result = affine(xp, ids, W, b)
    assert result.shape == (*shape, 3)
    np.testing.assert_allclose(result, affine(xp, one_hot, W, b), rtol=1e-12)


def test_whole_numbers_stored_as_floats_are_inputs_and_no_ids():
    W, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2)
    np.testing.assert_array_equal(affine(xp, np.array([[0.0, 1.0]]), W, b), [[3.0, 4.0]])


def test_float32_stays_float32():
    X, W, b = (np.ones(shape, np.float32) for shape in ((2, 3), (3, 4), (4,)))
    assert affine(xp, X, W, b).dtype == np.float32
