"""Every engine computes what the formula computes, in values and in gradients."""

import sys
from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from installed import INSTALLED
from unrolled.errors import SettingError
from unrolled.frameworks import load
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels import (
    PRECISIONS,
    WRITTEN_OUT,
    check_engine,
    chosen,
    engines,
    native,
    project,
    recur,
)
from unrolled.kernels.taps import tracing

pytestmark = pytest.mark.usefixtures("instructions")

FRAMEWORKS = [name for name in INSTALLED if name in WRITTEN_OUT]
ALL = {cell.engine: cell for cell in (*CELLS.values(), RELU_RNN)}
SIZES = [(35, 4, 28, 16), (1, 1, 1, 1), (3, 1, 2, 513), (2, 5, 7, 3), (2, 64, 3, 17)]

COMPILED = ("jax", "tensorflow")
"""Frameworks that compile for every size: what does not depend on the set runs on one alone."""


def cost(framework, sizes=None):
    """Mark what is worth its time on the best instruction set only."""
    return [pytest.mark.best_set] if framework in COMPILED and sizes != SIZES[-1] else []


frameworks = pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=cost(name)) for name in FRAMEWORKS]
)
cells = pytest.mark.parametrize("cell", ALL.values(), ids=ALL)


def problem(cell, sizes, ids=False, dtype=np.float32, seed=0):
    T, B, D, H = sizes
    rng = np.random.default_rng(seed)
    shapes = cell.shapes(D, H) | {"X": (T, B, D)}
    shapes |= {f"state.{i}": (B, H) for i in range(cell.num_states)}
    values = {n: rng.normal(0, H**-0.5, s).astype(dtype) for n, s in shapes.items()}
    weigh = rng.normal(size=(T, B, H)).astype(dtype)
    if ids:
        values.pop("X")
    return values, rng.integers(0, D, (T, B)), weigh


def solve(framework, cell, values, ids, weigh, engine, reverse=False, taps=None):
    """Outputs, last state and all gradients, as NumPy arrays by name."""
    backend = load(framework).backend
    ids, weigh = backend.asarray(ids), backend.asarray(weigh)

    def objective(p):
        X = p.get("X", ids)
        state = tuple(p[f"state.{i}"] for i in range(cell.num_states))
        weights = [p[name] for name in cell.weights]
        with tracing({name: p[name] for name in taps}) if taps else nullcontext():
            outputs, last = recur(backend, cell, X, state, weights, engine, reverse)
        xp = backend.xp
        total = xp.sum(outputs * weigh)
        for i, part in enumerate(last):
            total = total + xp.sum(part * part) * (i + 1)
        return total, (outputs, *last)

    parameters = backend.initialize(values | (taps or {}))
    (_, found), gradients = backend.compile(backend.value_and_grad(objective))(parameters)
    numbers = {f"output.{i}": backend.to_numpy(x) for i, x in enumerate(found)}
    return numbers | {f"d.{name}": backend.to_numpy(g) for name, g in gradients.items()}


def assert_equal(found, expected, tolerance):
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = max(np.abs(value).max(), 1e-2)  # smaller ones are differences of larger
        np.testing.assert_allclose(
            found[name] / scale, value / scale, rtol=0, atol=tolerance, err_msg=name
        )


@cache
def reference(framework, cell, sizes, ids):
    """What the formula gives; for all instruction sets, as it needs none."""
    return solve(framework, ALL[cell], *problem(ALL[cell], sizes, ids), "reference")


@cells
@pytest.mark.parametrize(
    ("framework", "sizes"),
    [pytest.param(*each, marks=cost(*each)) for each in product(FRAMEWORKS, SIZES)],
)
@pytest.mark.parametrize("ids", [False, True])
def test_fast_equals_reference(framework, cell, sizes, ids):
    found = solve(framework, cell, *problem(cell, sizes, ids), "fast")
    assert_equal(found, reference(framework, cell.engine, sizes, ids), 1e-5)


@cells
def test_fast_equals_reference_in_float64(cell):
    pytest.importorskip("torch")
    problem_ = problem(cell, (5, 2, 3, 4), dtype=np.float64)
    expected = solve("torch", cell, *problem_, "reference")
    assert_equal(solve("torch", cell, *problem_, "fast"), expected, 1e-12)


@frameworks
@cells
def test_in_reverse_it_reads_from_the_end_and_keeps_the_order(framework, cell):
    values, ids, weigh = problem(cell, (5, 2, 3, 4))
    found = solve(framework, cell, values, ids, weigh, "fast", reverse=True)
    flipped = solve(
        framework, cell, values | {"X": values["X"][::-1].copy()}, ids, weigh[::-1].copy(), "fast"
    )
    np.testing.assert_allclose(found["output.0"], flipped["output.0"][::-1], rtol=1e-6)
    np.testing.assert_allclose(found["d.X"], flipped["d.X"][::-1], rtol=1e-5, atol=1e-6)
    recurrent = f"d.{cell.weights[1]}"
    np.testing.assert_allclose(found[recurrent], flipped[recurrent], rtol=1e-5, atol=1e-6)


@frameworks
@cells
def test_taps_give_the_gradients_through_time(framework, cell):
    # the gradient at H_t is that of a loss that begins at t, from H_t as its first state
    T, B, _, H = sizes = (5, 2, 3, 4)
    values, ids, weigh = problem(cell, sizes)
    G = len([name for name in cell.weights if name.startswith("W_h")])
    zeros = {
        "layers.0.hidden": np.zeros((T, B, H), np.float32),
        "layers.0.recurrent": np.zeros((T, B, G * H), np.float32),
    }
    plain = solve(framework, cell, values, ids, weigh, "reference")
    found = solve(framework, cell, values, ids, weigh, "fast", taps=zeros)
    hidden, recurrent = found.pop("d.layers.0.hidden"), found.pop("d.layers.0.recurrent")
    assert_equal(found, plain, 1e-5)
    if cell.num_states == 1:
        for t in range(T - 1):
            later = values | {"X": values["X"][t + 1 :], "state.0": plain["output.0"][t]}
            rest = solve(framework, cell, later, ids[t + 1 :], weigh[t + 1 :], "reference")
            np.testing.assert_allclose(
                hidden[t], rest["d.state.0"] + weigh[t], rtol=1e-4, atol=1e-5
            )
    before = np.concatenate([values["state.0"][None], plain["output.0"][:-1]])
    stacked = np.concatenate([plain[f"d.{n}"] for n in cell.weights if n[:3] == "W_h"], axis=-1)
    np.testing.assert_allclose(
        np.einsum("tbh,tbg->hg", before, recurrent), stacked, rtol=1e-4, atol=1e-5
    )


def test_inputs_that_are_not_contiguous_and_a_second_call_with_other_shapes():
    torch = pytest.importorskip("torch")
    backend, cell = load("torch").backend, CELLS["gru"]
    for sizes in ((4, 3, 2, 5), (7, 1, 2, 5)):
        values, _, _ = problem(cell, sizes)
        weights = [
            torch.tensor(np.repeat(values[name], 2, axis=-1))[..., ::2] for name in cell.weights
        ]
        X = torch.tensor(values["X"].transpose(1, 0, 2).copy()).transpose(0, 1)
        state = (torch.tensor(values["state.0"].T.copy()).T,)
        fast, reference = (recur(backend, cell, X, state, weights, e)[0] for e in engines("torch"))
        torch.testing.assert_close(fast, reference, rtol=1e-5, atol=1e-6)


def test_the_gru_that_resets_before_the_product_has_the_reference_only():
    torch = pytest.importorskip("torch")
    backend, cell = load("torch").backend, CELLS["gru"]
    values, _, _ = problem(cell, (4, 3, 2, 5))
    weights = [torch.tensor(values[name]) for name in cell.weights][:-1]
    X, state = torch.tensor(values["X"]), (torch.tensor(values["state.0"]),)
    outputs, _ = recur(backend, cell, X, state, weights, "fast")
    torch.testing.assert_close(outputs, cell.forward(backend.xp, X, state, *weights)[0])


def test_an_unknown_engine_is_told_the_nearest():
    with pytest.raises(SettingError, match="unknown engine 'fats': did you mean 'fast'"):
        recur(SimpleNamespace(name="torch"), CELLS["rnn"], None, (), (), "fats")


@pytest.mark.parametrize(
    ("framework", "gpu", "here"),
    [("torch", False, "torch on the CPU"), ("jax", True, "jax on a GPU")],
)
def test_triton_is_for_pytorch_on_a_gpu(monkeypatch, framework, gpu, here):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(SettingError, match=f"needs PyTorch and a GPU of NVIDIA's; this is {here}"):
        check_engine("triton", framework, gpu)
    assert check_engine("triton", "torch", True) == "triton"


@pytest.mark.skipif("torch" not in INSTALLED, reason="needs PyTorch")
def test_triton_refuses_weights_on_a_cpu(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    backend, cell = load("torch").backend, CELLS["rnn"]
    values, _, _ = problem(cell, (4, 3, 2, 5))
    X, *weights = (backend.asarray(values[name]) for name in ("X", *cell.weights))
    state = (backend.asarray(values["state.0"]),)
    with pytest.raises(SettingError, match="this is torch on the CPU"):
        recur(backend, cell, X, state, weights, "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    if "tensorflow" in sys.modules and "triton" not in sys.modules:
        wrong = "once TensorFlow is loaded"
    elif find_spec("triton"):
        return
    else:
        wrong = "pip install triton"
    with pytest.raises(SettingError, match=wrong):
        recur(backend, cell, X, state, weights, "triton")


def test_the_record_of_a_run_names_the_engine_of_its_device():
    assert chosen("torch", "triton", gpu=True) == "Triton kernels"
    assert chosen("torch", "auto", gpu=True).startswith("cuDNN")
    assert chosen("torch", "reference", gpu=True) == chosen("jax", "auto", gpu=True) == "reference"
    assert chosen("jax", "fast", gpu=True) == "fast, without native kernels (on a GPU)"


@cells
def test_bfloat16_is_near_float32(cell):
    torch = pytest.importorskip("torch")
    if not native.available()[0]:
        pytest.skip(native.available()[1])
    values, ids, weigh = problem(cell, (35, 4, 28, 64), ids=True)
    backend, found = load("torch").backend, {}
    for precision in PRECISIONS:
        weights = [torch.tensor(values[name], requires_grad=True) for name in cell.weights]
        state = tuple(torch.tensor(values[f"state.{i}"]) for i in range(cell.num_states))
        outputs, _ = recur(backend, cell, torch.tensor(ids), state, weights, precision=precision)
        (outputs * torch.tensor(weigh)).sum().backward()
        found[precision] = [outputs.detach(), *(weight.grad for weight in weights)]
    differences = [
        float((a - b).norm() / a.norm())
        for a, b in zip(found["float32"], found["bfloat16"], strict=True)
    ]
    # bfloat16 has 8 bits: each factor is off by up to 2^-9; a ReLU unit near 0 may go over it
    assert 1e-5 < max(differences) < 0.1


@pytest.mark.parametrize(
    ("framework", "engine", "precision"),
    [("torch", "reference", "bfloat16"), ("jax", "auto", "bfloat16"), ("torch", "auto", "float8")],
)
def test_a_precision_that_is_not_there_is_told(framework, engine, precision):
    backend = SimpleNamespace(name=framework, xp=None)
    with pytest.raises(SettingError, match=precision):
        recur(backend, CELLS["rnn"], None, (), (), engine, precision=precision)


def test_types_that_differ_are_promoted_as_pytorch_does():
    torch = pytest.importorskip("torch")
    backend, cell = load("torch").backend, CELLS["rnn"]
    values, _, _ = problem(cell, (4, 3, 2, 5), dtype=np.float64)
    W_xh, W_hh, b_h = (torch.tensor(values[name]) for name in cell.weights)
    X, state = torch.tensor(values["X"]), (torch.tensor(values["state.0"]),)
    weights = (W_xh, W_hh, b_h.float())
    found, _ = recur(backend, cell, X, state, weights, "fast")
    torch.testing.assert_close(found, recur(backend, cell, X, state, weights, "reference")[0])
    Y = project(backend, found[0], W_xh.T, torch.zeros(2))
    torch.testing.assert_close(Y, found[0] @ W_xh.T)


def test_the_output_layer_equals_the_affine_map_in_values_and_gradients():
    torch = pytest.importorskip("torch")
    backend, rng = load("torch").backend, np.random.default_rng(0)
    for N, H, V in ((1120, 33, 28), (1, 1, 1), (3, 513, 5)):
        arrays = [torch.tensor(rng.normal(size=s)) for s in ((N, H), (H, V), (V,), (N, V))]
        *leaves, weigh = arrays
        results = []
        for engine in engines("torch"):
            for leaf in leaves:
                leaf.requires_grad_(True)
            Y = project(backend, *leaves, engine=engine)
            results.append((Y, *torch.autograd.grad((Y * weigh).sum(), leaves)))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-10)
