"""The native kernels as operations of XLA: where they run, and what JAX does around them."""

import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from unrolled import native  # noqa: E402
from unrolled.backends import jax as backend  # noqa: E402
from unrolled.errors import SettingError  # noqa: E402
from unrolled.functional.recurrent import CELLS  # noqa: E402
from unrolled.kernels import jax as kernels  # noqa: E402
from unrolled.kernels import native_recurrence, recur  # noqa: E402

usable, reason = native.available()
natively = pytest.mark.skipif(not usable, reason=reason)
cells = pytest.mark.parametrize("cell", CELLS)

# which instructions compute is no matter of the framework; `test_recur.py` has every set
pytestmark = [pytest.mark.usefixtures("instructions"), pytest.mark.best_set]

T, B, D, H = 5, 2, 3, 4


def drawn(cell, dtype="float32", D=D):
    """Inputs, state and weights."""
    rng = np.random.default_rng(D)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape).astype(dtype))

    state = tuple(draw(B, H) for _ in range(CELLS[cell].num_states))
    return draw(T, B, D), state, [draw(*shape) for shape in CELLS[cell].shapes(D, H).values()]


def loss(cell, engine="auto"):
    def total(X, state, weights):
        outputs, last = recur(backend, CELLS[cell], X, state, weights, engine)
        return jnp.sum(outputs**2) + sum(jnp.sum(part) for part in last)

    return total


def gradients(cell, engine, X, state, weights):
    """Of state and weights, and of inputs that are no ids, compiled."""
    places = (1, 2) if jnp.issubdtype(X.dtype, jnp.integer) else (0, 1, 2)
    return jax.jit(jax.value_and_grad(loss(cell, engine), places))(X, state, weights)


def assert_near(found, expected, tolerance=2e-5):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def operations(cell, engine="auto", dtype="float32"):
    return str(jax.make_jaxpr(jax.grad(loss(cell, engine)))(*drawn(cell, dtype)))


@natively
@cells
def test_auto_and_fast_are_the_native_kernels_there_and_back(cell):
    for engine in ("auto", "fast"):
        text = operations(cell, engine)
        assert "unrolled_forward" in text
        assert "unrolled_backward" in text
        assert "scan" not in text
    assert "unrolled" not in operations(cell, "reference")


@cells
def test_without_them_auto_is_the_formula_and_fast_the_passes_written_out(cell):
    arrays = drawn(cell)
    expected = gradients(cell, "reference", *arrays)
    with native.using("off"):
        assert "unrolled" not in operations(cell, "fast")
        assert operations(cell, "auto") == operations(cell, "reference")
        assert_near(gradients(cell, "fast", *arrays), expected)


@natively
def test_half_precision_and_other_devices_are_left_to_jax(monkeypatch):
    assert "unrolled" not in operations("rnn", dtype="float16")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "unrolled" not in operations("rnn")


@natively
def test_an_xla_with_another_interface_is_left_alone(monkeypatch):
    def refuse(*_):
        raise RuntimeError("INVALID_ARGUMENT: the handler's API version is incompatible")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    kernels._are_operations.cache_clear()
    try:
        assert "unrolled" not in operations("rnn")
        assert_near(
            gradients("rnn", "fast", *drawn("rnn")), gradients("rnn", "auto", *drawn("rnn"))
        )
    finally:
        kernels._are_operations.cache_clear()


@natively
@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_float64_to_the_last_digits(cell):
    with jax.enable_x64(True):
        X, *rest = drawn(cell, "float64")
        ids = jnp.asarray(np.random.default_rng(1).integers(0, D, (T, B)))
        assert ids.dtype == jnp.int64
        assert "unrolled_forward" in operations(cell, dtype="float64")
        for inputs in (X, ids, ids.astype(jnp.int32)):
            expected = gradients(cell, "reference", inputs, *rest)
            assert_near(gradients(cell, "auto", inputs, *rest), expected, 1e-12)


@natively
@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32"])
def test_ids_of_any_type(kind):
    _, *rest = drawn("gru")
    ids = jnp.asarray(np.random.default_rng(1).integers(0, D, (T, B)))
    expected = gradients("gru", "reference", ids, *rest)
    assert_near(gradients("gru", "auto", ids.astype(kind), *rest), expected)


@natively
@pytest.mark.parametrize("bad", [-1, D])
def test_an_id_that_is_none_is_an_error(bad):
    _, *rest = drawn("gru")
    ids = jnp.zeros((T, B), int).at[T - 1, 0].set(bad)
    with pytest.raises(RuntimeError, match="an id is negative or not below the size"):
        jax.block_until_ready(gradients("gru", "auto", ids, *rest))


@natively
def test_vmap_of_inputs_and_of_weights():
    cell = "lstm"
    X, state, weights = drawn(cell)
    several = jnp.stack([X, 2 * X, -X])
    each = jax.vmap(jax.grad(loss(cell)), (0, None, None))(several, state, weights)
    for x, found in zip(several, each, strict=True):
        assert_near(found, jax.grad(loss(cell, "reference"))(x, state, weights))
    models = [jnp.stack([w, w / 2]) for w in weights]
    found, _ = jax.vmap(jax.value_and_grad(loss(cell)), (None, None, 0))(X, state, models)
    assert_near(found[1], loss(cell, "reference")(X, state, [w / 2 for w in weights]))


@natively
def test_a_second_derivative_is_refused_and_the_reference_has_it():
    X, state, weights = drawn("rnn")

    def twice(engine):
        inner = jax.grad(loss("rnn", engine))
        return jax.grad(lambda X: jnp.sum(inner(X, state, weights) ** 2))(X)

    with pytest.raises(SettingError, match="engine='reference'"):
        twice("auto")
    assert np.isfinite(twice("reference")).all()


@natively
def test_the_same_call_is_the_same_operation_and_is_compiled_once():
    assert operations("lstm") == operations("lstm")


@natively
def test_several_layers_in_a_compiled_loop_with_threads_of_their_own(monkeypatch):
    monkeypatch.setattr(native_recurrence, "SMALLEST_SHARE", 1)  # two threads for any product
    monkeypatch.setattr(kernels, "num_threads", lambda *_: 2)
    X, state, weights = drawn("gru")
    second = drawn("gru", D=H)[2]

    def total(both, engine):
        first, second = both
        outputs, _ = recur(backend, CELLS["gru"], X, state, first, engine)
        outputs, _ = recur(backend, CELLS["gru"], outputs, state, second, engine)
        return jnp.sum(outputs**2)

    def trained(engine, steps):
        def step(_, both):
            found = jax.grad(total)(both, engine)
            return jax.tree.map(lambda w, d: w - 1e-3 * d, both, found)

        return jax.jit(lambda both: jax.lax.fori_loop(0, steps, step, both))((weights, second))

    assert_near(trained("auto", 20), trained("reference", 20), 1e-4)
    assert all(np.isfinite(w).all() for w in jax.tree.leaves(trained("auto", 2000)))


@natively
@pytest.mark.parametrize("cores", [1, 2])
def test_on_as_many_cores_as_the_process_has(cores):
    if cores > len(os.sched_getaffinity(0)):
        pytest.skip(f"this process has fewer than {cores} cores")
    code = f"""
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])
import jax, jax.numpy as jnp
from unrolled.backends import jax as backend
from unrolled.functional.recurrent import CELLS
from unrolled.kernels import recur
cell = CELLS["lstm"]
weights = [jnp.full(shape, 0.01) for shape in cell.shapes(64, 64).values()]
X, state = jnp.ones((35, 32, 64)), (jnp.zeros((32, 64)),) * 2
loss = lambda weights: jnp.sum(recur(backend, cell, X, state, weights, "fast")[0])
step = jax.jit(lambda weights: [w - 1e-9 * d for w, d in zip(weights, jax.grad(loss)(weights))])
for _ in range(300):
    weights = step(weights)
assert jnp.isfinite(weights[0]).all()
"""
    environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=100)
