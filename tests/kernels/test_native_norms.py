"""The native kernels of telemetry against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled import native
from unrolled.backends.numpy import xp
from unrolled.telemetry.through_time import SATURATED, layer_numbers

if not native.available()[0]:
    pytest.skip(native.available()[1], allow_module_level=True)

pytestmark = pytest.mark.usefixtures("instructions")

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def by_formula(dH, D, before, H, relu):
    """NumPy's einsum and norms in float64, none of the project's own functions."""
    dH, D, before, H = (x.astype(np.float64) for x in (dH, D, before, H))
    norms = np.linalg.norm(dH, axis=2)
    parts = np.linalg.norm(np.einsum("tbh,tbg->thg", before, D), axis=(1, 2))
    saturated = H <= 0 if relu else np.abs(H) > SATURATED
    return np.concatenate([norms.mean(1), norms.max(1), parts, [saturated.mean()]])


@dtypes
@settings(deadline=None, max_examples=25)
@given(
    T=st.integers(1, 5),
    B=st.integers(1, 13),
    H=st.integers(1, 40),
    G=st.sampled_from([1, 3, 4]),
    threads=st.integers(1, 3),
    how=st.sampled_from(["every", "first", "none"]),
    relu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_layer_numbers(dtype, T, B, H, G, threads, how, relu, seed):
    rng = np.random.default_rng(seed)
    dH, D, every, after = (
        rng.normal(0, 0.7, (T, B, width)).astype(dtype) for width in (H, G * H, H, H)
    )
    first = every[0].copy() if how == "first" else None
    if how != "every":
        start = np.zeros((1, B, H), dtype) if first is None else first[None]
        every = np.concatenate([start, after[:-1]])
    out = np.full(3 * T + 1, np.nan, dtype)
    native.layer_numbers(
        dH, D, after, out, limit=0.0 if relu else SATURATED, relu=relu,
        before=every if how == "every" else None, first=first,
        threads=threads,
    )  # fmt: skip
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    scale = np.abs(every).max() * np.abs(D).max()
    np.testing.assert_allclose(
        out, by_formula(dH, D, every, after, relu), rtol=tolerance, atol=tolerance * scale
    )


@dtypes
def test_small_gradients_and_nan_stay_what_they_are(dtype):
    dH, zeros = np.zeros((3, 2, 4), dtype), np.zeros((3, 2, 4), dtype)
    dH[0, 0], dH[1, 1, 2] = 1e-30, np.nan
    out = np.empty(10, dtype)
    native.layer_numbers(dH, zeros, zeros, out, limit=SATURATED)
    np.testing.assert_allclose(out[[0, 3]], [1e-30, 2e-30], rtol=1e-6)
    assert np.isnan(out[[1, 4]]).all()
    assert not out[[2, 5, 6, 7, 8, 9]].any()


@dtypes
@pytest.mark.parametrize("threads", [1, 3])
def test_norms_of_arrays_and_of_differences(dtype, threads):
    rng = np.random.default_rng(0)
    shapes = [(1,), (7, 5), (0, 3), (200, 333), ()]
    a, b = ([np.asarray(rng.normal(size=s), dtype) for s in shapes] for _ in range(2))
    how = {"threads": threads}
    for minus in ((), b):
        out = np.full(len(a), np.nan)
        native.norms(a, out, minus, **how)
        found = [x - y for x, y in zip(a, minus, strict=True)] if minus else a
        expected = [np.sqrt((x.astype(np.float64) ** 2).sum()) for x in found]
        np.testing.assert_allclose(out, expected, rtol=1e-13)


def test_norms_that_float32_cannot_hold():
    out = np.empty(2)
    native.norms([np.full(100, 3e38, "float32"), np.full(4, 1e-40, "float32")], out)
    np.testing.assert_allclose(out, [3e39, 2e-40], rtol=1e-5)


def test_threads_do_not_change_the_numbers():
    x = np.random.default_rng(1).normal(size=(100, 1000)).astype("float32")
    found = [np.empty(1) for _ in range(3)]
    for threads, out in enumerate(found, 1):
        native.norms([x], out, threads=threads)
    assert found[0] == found[1] == found[2]


def test_arrays_that_do_not_fit_are_named():
    x, out = np.ones((2, 3), "float32"), np.empty(1)
    with pytest.raises(ValueError, match="float64"):
        native.norms([x, x.astype("float64")], np.empty(2))
    with pytest.raises(ValueError, match="of float64"):
        native.norms([x], out.astype("float32"))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        native.norms([x], out, [x.T.copy()])
    with pytest.raises(ValueError, match="not contiguous"):
        native.norms([x.T], out)
    with pytest.raises(ValueError, match="needed was not given"):
        native.norms([], np.empty(0))
    h = np.ones((2, 1, 3), "float32")
    with pytest.raises(ValueError, match=r"\(7,\)"):
        native.layer_numbers(h, h, h, x[0, :1], limit=SATURATED)


@pytest.mark.parametrize("cell", ["rnn", "rnn_relu", "gru", "lstm"])
@pytest.mark.parametrize("axes", [2, 3])
def test_pytorchs_numbers_are_those_of_the_formula(cell, axes):
    torch = pytest.importorskip("torch")
    from unrolled.backends.torch import xp as torch_xp

    rng, G = np.random.default_rng(2), {"gru": 3, "lstm": 4}.get(cell, 1)
    dH, D, before, after = (rng.normal(size=(4, 3, w)) for w in (5, 5 * G, 5, 5))
    before = before if axes == 3 else before[0]
    expected = layer_numbers(xp, cell, dH, D, before, after)
    found = layer_numbers(torch_xp, cell, *map(torch.tensor, (dH, D, before, after)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    # where the kernels cannot read them, the formula computes
    turned = [torch.tensor(x).transpose(-1, -2).contiguous().mT for x in (dH, D, before, after)]
    np.testing.assert_allclose(layer_numbers(torch_xp, cell, *turned).numpy(), expected, rtol=1e-6)
