"""The native kernels against the formulas in NumPy, and against finite differences."""

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled import native
from unrolled.backends.numpy import xp
from unrolled.errors import SettingError
from unrolled.functional import bptt, recurrent
from unrolled.native import interface, loading, recording

usable, reason = native.available()
pytestmark = [
    pytest.mark.skipif(not usable, reason=reason),
    pytest.mark.usefixtures("instructions"),
]

CELLS = ("rnn", "rnn_relu", "gru", "lstm")
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
FORMULAS = {**recurrent.CELLS, "rnn_relu": recurrent.RELU_RNN}


class Layer:
    """Random weights and inputs of a layer, what the kernels make of it, and the truth."""

    def __init__(self, cell, T, B, H, V=7, dtype="float64", seed=0, scale=1.0, zero_state=False):
        rng = np.random.default_rng(seed)

        def draw(*shape):
            return (scale * rng.standard_normal(shape)).astype(dtype)

        self.cell, self.G, self.dtype = cell, native.CELLS[cell], dtype
        self.T, self.B, self.H, self.V = T, B, H, V
        self.ids = rng.integers(0, V, (T, B))
        self.W_x = [draw(V, H) for _ in range(self.G)]
        self.W_h = [draw(H, H) / np.sqrt(H).astype(dtype) for _ in range(self.G)]
        self.b = [draw(H) for _ in range(self.G)]
        self.b_hh = draw(H) if cell == "gru" else None
        count = 2 if cell == "lstm" else 1
        self.state = (None,) * count if zero_state else tuple(draw(B, H) for _ in range(count))
        self.dY, self.d_last = draw(T, B, H), tuple(draw(B, H) for _ in range(count))

    def empty(self, *shape):
        return np.full(shape, np.nan, self.dtype)  # what is not written shows

    def forward(self, inputs=None, **how):
        """Outputs, and with the cells and gates everything that `backward` reads."""
        T, B, H = self.T, self.B, self.H
        self.outputs = self.empty(T, B, H)
        self.kept = {"h0": self.state[0]}
        if self.cell == "lstm":
            self.kept |= {"c0": self.state[1], "cells": self.empty(T, B, H)}
        if self.cell in ("gru", "lstm"):
            self.kept |= {"gates": self.empty(T, B, 4 * H)}
        from_where = {"ids": self.ids, "biases": self.b} if inputs is None else {}
        inputs = self.W_x if inputs is None else inputs
        native.forward(
            self.cell,
            inputs,
            self.W_h,
            self.outputs,
            b_hh=self.b_hh,
            **from_where,
            **self.kept,
            **how,
        )
        return self.outputs

    def backward(self, **how):
        """Every gradient by name, as the kernels find them."""
        T, B, H, G = self.T, self.B, self.H, self.G
        D, dH, d_h0 = self.empty(T, B, G * H), self.empty(T, B, H), self.empty(B, H)
        dW_h, dW_x = ([self.empty(n, H) for _ in range(G)] for n in (H, self.V))
        db = [self.empty(H) for _ in range(G)]
        extra = {}
        if self.cell == "gru":
            extra |= {"dA": self.empty(T, B, G * H), "db_hh": self.empty(H)}
        if self.cell == "lstm":
            extra |= {"d_c": self.d_last[1], "d_c0": self.empty(B, H)}
        native.backward(
            self.cell,
            self.W_h,
            self.outputs,
            D,
            d_outputs=self.dY,
            d_h=self.d_last[0],
            dH=dH,
            d_h0=d_h0,
            dW_h=dW_h,
            dW_x=dW_x,
            ids=self.ids,
            db=db,
            **self.kept,
            **extra,
            **how,
        )
        found = {"dA": extra.get("dA", D), "D": D, "dH": dH, "d_h0": d_h0}
        found |= {name: extra[name] for name in ("d_c0", "db_hh") if name in extra}
        for g in range(G):
            found |= {f"dW_h{g}": dW_h[g], f"dW_x{g}": dW_x[g], f"db{g}": db[g]}
        return found

    def doubles(self, arrays):
        zeros = np.zeros((self.B, self.H))
        return tuple(zeros if a is None else np.asarray(a, np.float64) for a in arrays)

    def truth(self):
        """Outputs and last states by the formulas, in float64."""
        gates = zip(self.W_x, self.W_h, self.b, strict=True)
        rest = [] if self.b_hh is None else [self.b_hh]
        weights = self.doubles([*(w for gate in gates for w in gate), *rest])
        return FORMULAS[self.cell].forward(xp, self.ids, self.doubles(self.state), *weights)

    def input_side(self):
        W = np.concatenate(self.doubles([W + b for W, b in zip(self.W_x, self.b, strict=True)]), -1)
        return W[self.ids]

    def gradients(self):
        """Every gradient by name, by the derivatives written out in NumPy, in float64."""
        G, H = self.G, self.H
        W_h = np.concatenate(self.doubles(self.W_h), -1)
        b_hh = 0.0 if self.b_hh is None else self.doubles([self.b_hh])[0]
        _, tape = bptt.forward(
            xp, self.cell, self.input_side(), self.doubles(self.state), W_h, b_hh
        )
        dY, *d_last = self.doubles([self.dY, *self.d_last])
        g = bptt.backward(xp, self.cell, tape, W_h, dY, tuple(d_last))
        found = {"dA": g.inputs, "D": g.recurrent, "dH": g.hidden, "d_h0": g.state[0]}
        if len(g.state) > 1:
            found["d_c0"] = g.state[1]
        if self.b_hh is not None:
            found["db_hh"] = g.recurrent[..., -H:].sum((0, 1))
        dW_h = bptt.over_time(xp, tape.old[0], g.recurrent)
        dW_x = np.zeros((self.V, G * H))
        np.add.at(dW_x, self.ids.ravel(), g.inputs.reshape(-1, G * H))
        for i in range(G):
            part = slice(i * H, (i + 1) * H)
            found |= {f"dW_h{i}": dW_h[:, part], f"dW_x{i}": dW_x[:, part]}
            found[f"db{i}"] = g.inputs[..., part].sum((0, 1))
        return found


def distance(found, truth):
    """The largest difference, relative to the largest number if that is above 1."""
    assert found.shape == truth.shape
    return np.abs(found - truth).max() / max(1.0, np.abs(truth).max())


def check(layer, **how):
    tolerance = TOLERANCE[layer.dtype]
    outputs, last = layer.truth()
    assert distance(layer.forward(**how), outputs) < tolerance
    if layer.cell == "lstm":
        assert distance(layer.kept["cells"][-1], last[1]) < tolerance
    found, truth = layer.backward(**how), layer.gradients()
    assert found.keys() == truth.keys()
    for name in truth:
        assert distance(found[name], truth[name]) < tolerance, name


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("T", "B", "H"), [(6, 11, 70), (1, 1, 1), (1, 32, 513), (3, 1, 513), (40, 3, 8), (2, 70, 65)]
)
def test_equal_to_the_formulas(cell, T, B, H):
    for dtype in TOLERANCE:
        check(Layer(cell, T, B, H, dtype=dtype, scale=0.5), threads=3)


@settings(deadline=None, max_examples=25)
@given(
    cell=st.sampled_from(CELLS),
    dtype=st.sampled_from(["float32", "float64"]),
    T=st.integers(1, 4),
    B=st.integers(1, 41) | st.integers(1, 300),
    H=st.integers(1, 70),
    threads=st.integers(1, 5),
    zero_state=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape_and_any_number_of_threads(cell, dtype, T, B, H, threads, zero_state, seed):
    layer = Layer(cell, T, B, H, dtype=dtype, seed=seed, zero_state=zero_state, scale=0.5)
    check(layer, threads=threads)


@pytest.mark.parametrize("B", [1, 33, *range(59, 68), 95, 96, 97, 127, 128, 256, 1024])
@pytest.mark.parametrize("cell", CELLS)
def test_batches_of_whole_tiles_and_of_a_row_more(cell, B):
    for dtype in TOLERANCE:  # one thread gives the same numbers, see below
        check(Layer(cell, 2, B, 17, dtype=dtype, scale=0.5), threads=2)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("B", [12, 40])  # too few sequences for each thread to have its own; enough
def test_threads_do_not_change_the_numbers(cell, B):
    layer = Layer(cell, 5, B, 96, dtype="float32")
    runs = []
    for threads in (1, 2, 5):
        runs.append([layer.forward(threads=threads), *layer.backward(threads=threads).values()])
    for other in runs[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_against_finite_differences(cell):
    layer = Layer(cell, 4, 3, 9, scale=0.7)
    layer.forward()
    found = layer.backward()

    def loss():
        outputs, last = layer.truth()
        pairs = zip((outputs, *last), (layer.dY, *layer.d_last), strict=True)
        return sum((a * b).sum() for a, b in pairs)

    places = {f"dW_x{g}": layer.W_x[g] for g in range(layer.G)}
    places |= {f"dW_h{g}": layer.W_h[g] for g in range(layer.G)}
    places |= {f"db{g}": layer.b[g] for g in range(layer.G)}
    places |= dict(zip(("d_h0", "d_c0"), layer.state, strict=False))
    rng, step = np.random.default_rng(1), 1e-6
    for name, array in places.items():
        direction, start = rng.standard_normal(array.shape), array.copy()
        array[...] = start + step * direction
        above = loss()
        array[...] = start - step * direction
        slope = (above - loss()) / (2 * step)
        array[...] = start
        assert slope == pytest.approx((found[name] * direction).sum(), rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_rounds_only_what_is_multiplied(cell):
    layer = Layer(cell, 5, 9, 65, dtype="float32", scale=0.5)
    how = {"precision": "bfloat16", "threads": 2}
    outputs, truth = layer.forward(**how), layer.truth()[0]
    assert 1e-5 < distance(outputs, truth) < 2e-2  # 8 bits: neither float32 nor nonsense
    found, truth = layer.backward(**how), layer.gradients()
    for name in truth:
        assert distance(found[name], truth[name]) < 4e-2, name


def test_bfloat16_products_of_numbers_that_it_can_hold_are_exact():
    rng = np.random.default_rng(0)
    A, B = (rng.integers(-8, 9, shape).astype("float32") for shape in ((13, 45), (45, 37)))
    C = np.empty((13, 37), "float32")
    native.product(A, B, C, precision="bfloat16", threads=2)
    assert np.array_equal(C, A @ B)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_saturated_units_are_finite_and_exact(cell, dtype):
    layer = Layer(cell, 5, 4, 20, dtype=dtype, scale=300)
    outputs = layer.forward()  # sums of some 100,000: fewer digits left
    assert distance(outputs, layer.truth()[0]) < 1e5 * np.finfo(dtype).eps
    found = layer.backward()
    assert all(np.isfinite(gradient).all() for gradient in found.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_to_the_last_digits(dtype):
    """One step of a layer without recurrent weights is the activation itself."""
    sizes = np.concatenate([np.logspace(-30, 3, 400), [0.34657, 0.34658, 87.3, 88.8, 709.0, 1e4]])
    x = np.concatenate([-sizes, [0.0], sizes]).astype(dtype)
    H, outputs = len(x), np.empty((1, 1, len(x)), dtype)
    how = {"h0": None}
    W = np.zeros((H, H), dtype)
    native.forward("rnn", x.reshape(1, 1, H), [W], outputs, **how)
    exact, few = np.tanh(x.astype("float64")), 6 * np.finfo(dtype).eps
    assert (np.abs(outputs[0, 0] - exact) <= few * np.abs(exact)).all()  # relative, also near 0

    zeros, cells = np.zeros(H, dtype), np.empty_like(outputs)
    A = np.concatenate([x, zeros, zeros, np.full(H, 20, dtype)])  # C_1 = sigmoid(x) tanh(20)
    native.forward("lstm", A.reshape(1, 1, -1), [W] * 4, outputs, cells=cells, **how)
    exact = 1 / (1 + np.exp(-x.astype("longdouble"))) * np.tanh(np.float64(20))
    assert np.abs(cells[0, 0] - exact).max() <= few


def test_nan_is_passed_on():
    layer = Layer("rnn", 3, 2, 5)
    layer.b[0][3] = np.nan
    assert np.isnan(layer.forward()[-1]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_in_place_of_ids(cell):
    layer = Layer(cell, 4, 5, 33)
    by_ids = layer.forward()
    given = layer.forward(inputs=layer.input_side())
    assert distance(given, by_ids) < 1e-12


def test_lstm_gradients_in_place_of_its_gates():
    layer = Layer("lstm", 4, 5, 33)
    layer.forward()
    apart = layer.backward()
    gates = layer.kept["gates"]
    native.backward(
        "lstm", layer.W_h, layer.outputs, gates, d_outputs=layer.dY, d_h=layer.d_last[0],
        d_c=layer.d_last[1], **layer.kept,
    )  # fmt: skip
    assert np.array_equal(gates, apart["D"])


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_that_nobody_gives_are_zeros(cell):
    layer = Layer(cell, 3, 4, 10)
    layer.forward()
    layer.dY[...] = 0
    layer.d_last = tuple(np.zeros_like(d) for d in layer.d_last)
    assert all(not gradient.any() for gradient in layer.backward().values())
    D = layer.empty(3, 4, layer.G * 10)
    extra = {"dA": np.empty_like(D)} if cell == "gru" else {}
    native.backward(cell, layer.W_h, layer.outputs, D, **layer.kept, **extra)
    assert not D.any()


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.tuples(*[st.integers(1, 600) | st.integers(1, 20)] * 3),
    transposed=st.tuples(st.booleans(), st.booleans()),
    start=st.sampled_from(["nothing", "bias", "accumulate"]),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 4),
)
def test_products(sizes, transposed, start, dtype, threads):
    (M, N, K), rng = sizes, np.random.default_rng(0)
    A, B, C, bias = (rng.standard_normal(s).astype(dtype) for s in ((M, K), (K, N), (M, N), N))
    truth = A.astype("float64") @ B
    truth += {"nothing": 0, "bias": bias, "accumulate": C}[start]
    native.product(
        np.ascontiguousarray(A.T) if transposed[0] else A,
        np.ascontiguousarray(B.T) if transposed[1] else B,
        C,
        transpose_a=transposed[0],
        transpose_b=transposed[1],
        bias=bias if start == "bias" else None,
        accumulate=start == "accumulate",
        threads=threads,
    )
    assert distance(C, truth) < TOLERANCE[dtype]


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.tuples(*[st.integers(1, 300) | st.integers(1, 20)] * 3),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 4),
)
def test_the_way_back_through_an_affine_map(sizes, dtype, threads):
    (N, D, V), rng = sizes, np.random.default_rng(0)
    X, W, dY = (rng.standard_normal(s).astype(dtype) for s in ((N, D), (D, V), (N, V)))
    found = native.call(
        "affine_backward",
        X,
        {"N": N, "D": D, "V": V},
        {"X": X, "W": W, "dY": dY},
        ("dX", "dW", "db"),
        lambda shape, like: np.full(shape, np.nan, like.dtype),
        threads=threads,
    )
    x, w, dy = (array.astype("float64") for array in (X, W, dY))
    for name, truth in {"dX": dy @ w.T, "dW": x.T @ dy, "db": dy.sum(0)}.items():
        assert distance(found[name], truth) < TOLERANCE[dtype]


def test_sums_are_made_only_for_those_who_ask():
    layer = Layer("gru", 3, 4, 10)
    layer.forward()
    everything = layer.backward()
    D, dA = layer.empty(3, 4, 30), layer.empty(3, 4, 30)
    db = [None, layer.empty(10), None]
    gradients = {"d_outputs": layer.dY, "d_h": layer.d_last[0]}
    native.backward("gru", layer.W_h, layer.outputs, D, dA=dA, db=db, **gradients, **layer.kept)
    assert np.array_equal(D, everything["D"])
    assert distance(db[1], everything["db1"]) < 1e-12  # summed in another order


@pytest.mark.parametrize("cell", CELLS)
def test_tensors_and_the_threads_of_their_framework(cell):
    torch = pytest.importorskip("torch")
    layer = Layer(cell, 5, 12, 70, dtype="float32")
    truth = layer.forward().copy()
    outputs, kept = torch.full((5, 12, 70), torch.nan), layer.kept
    tensors = {name: torch.from_numpy(array) for name, array in kept.items()}
    b_hh = None if layer.b_hh is None else torch.from_numpy(layer.b_hh)
    W_x, W_h, b = ([torch.from_numpy(w) for w in ws] for ws in (layer.W_x, layer.W_h, layer.b))
    ids = torch.from_numpy(layer.ids)
    for threads in (1, 2, 3):
        native.forward(
            cell, W_x, W_h, outputs, ids=ids, biases=b, b_hh=b_hh, threads=threads, **tensors
        )
        assert np.array_equal(outputs.numpy(), truth)


def test_many_calls_at_once_and_one_after_the_other():
    """No state is shared, threads wait between the calls, and calls take each other's."""
    layers = [Layer(cell, 4, 6, 33, seed=seed) for seed, cell in enumerate(("rnn", "gru") * 2)]
    first = [layer.forward(threads=1).copy() for layer in layers]

    def again(layer):
        for threads in (2, 5, 3) * 20:
            layer.forward(threads=threads)

    callers = [threading.Thread(target=again, args=(layer,)) for layer in layers]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for layer, outputs in zip(layers, first, strict=True):
        assert np.array_equal(layer.outputs, outputs)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no list of threads")
def test_a_forked_process_starts_threads_of_its_own():
    """Threads do not survive a fork; a lock that one of them held would stay locked for ever."""
    code = """
import os, signal
import numpy as np
from unrolled import native

A, B = np.random.default_rng(0).standard_normal((2, 64, 64))
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
truth, again = np.empty((2, 64, 64))
native.product(A, B, truth, threads=3)
assert threads() == before + 2, "the parent started no threads"
child = os.fork()
if child == 0:
    signal.alarm(60)  # kills it if it hangs
    assert threads() == 1
    native.product(A, B, again, threads=3)
    assert np.array_equal(again, truth)
    os._exit(threads())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3, "the child started no threads"
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=100)


BAD = {
    "shape": lambda layer: setattr(layer, "W_h", [np.zeros((5, 6))]),
    "number of weights": lambda layer: setattr(layer, "W_h", layer.W_h * 2),
    "not contiguous": lambda layer: setattr(layer, "W_h", [layer.W_h[0].T]),
    "type": lambda layer: setattr(layer, "b", [layer.b[0].astype("float32")]),
    "half precision": lambda layer: setattr(layer, "dtype", "float16"),
    "id too large": lambda layer: layer.ids.fill(layer.V),
    "negative id": lambda layer: layer.ids.fill(-1),
    "unknown cell": lambda layer: setattr(layer, "cell", "rmn"),
    "type of ids": lambda layer: setattr(layer, "ids", layer.ids.astype("int32")),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused(what):
    layer = Layer("rnn", 2, 3, 5)
    with pytest.raises(ValueError, match="at least 1"):
        layer.forward(threads=0)
    BAD[what](layer)
    with pytest.raises(ValueError, match=r"expected|has 1|float16|id|unknown"):
        layer.forward()


@pytest.mark.parametrize(("M", "N", "K"), [(0, 3, 3), (3, 0, 3), (3, 3, 0)])
def test_empty_arrays_are_refused(M, N, K):
    with pytest.raises(ValueError, match="a size is zero"):
        native.product(np.ones((M, K)), np.ones((K, N)), np.ones((M, N)))


def test_the_library_itself_refuses_what_would_crash():
    functions = loading.loaded()
    assert functions.unrolled_forward(ctypes.byref(interface.Recurrence())) == 1
    assert functions.unrolled_product(ctypes.byref(interface.Product())) == 1
    assert functions.unrolled_affine_backward(ctypes.byref(interface.AffineGradients())) == 1


def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(loading, "fits", lambda built: False)
    native.available.cache_clear()
    try:
        assert not native.available()[0]
        assert "another version" in native.available()[1]
    finally:
        native.available.cache_clear()


def test_the_environment_chooses_the_instructions(instructions):
    """Of this process and of those that it starts."""
    assert native.describe()["instructions"] == instructions
    assert interface.INSTRUCTIONS[loading.in_use()] == instructions
    printed = subprocess.run(
        [sys.executable, "-c", "from unrolled import native; print(native.describe())"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"'instructions': '{instructions}'" in printed
    with native.using("off"):
        assert not native.available()[0]
    assert native.available()[0]


def test_an_unknown_name_in_the_environment_is_told(monkeypatch):
    monkeypatch.setenv("UNROLLED_NATIVE", "avx521")
    with pytest.raises(SettingError, match="did you mean 'avx512'"):
        native.describe()


def test_without_the_library_the_reason_is_told(monkeypatch, tmp_path):
    kept = (native.available, loading.in_use)
    for cached in kept:
        cached.cache_clear()
    monkeypatch.setattr(loading, "LIBRARY", tmp_path / "libunrolled.so")
    try:
        usable, reason = native.available()
        assert not usable
        assert "compiler" in reason
        assert native.describe() == {"available": False, "reason": reason}
        with pytest.raises(SettingError, match="compiler"):
            Layer("rnn", 2, 3, 5).forward()
    finally:
        for cached in kept:
            cached.cache_clear()


def test_a_call_that_is_written_down_is_the_call_that_would_be_made():
    layer = Layer("gru", 4, 2, 5)
    expected = layer.forward().copy()
    A = layer.input_side()  # (T, B, 3 H): one array, three pointers
    outputs, gates = layer.empty(4, 2, 5), layer.empty(4, 2, 20)
    arrays = [A, *layer.W_h, layer.b_hh, layer.state[0], outputs, gates]

    def call(A, W_z, W_r, W_c, b_hh, h0, outputs, gates):
        native.forward("gru", A, [W_z, W_r, W_c], outputs, b_hh=b_hh, h0=h0, gates=gates)

    recorded = recording.record(lambda: call(*arrays), arrays)
    assert np.isnan(outputs).all()  # not made
    again = recording.record(lambda: call(*map(np.empty_like, arrays)), arrays)
    np.testing.assert_array_equal(recorded.call, again.call)  # wherever the arrays are

    arrays.append(np.empty(recorded.workspace, np.uint8))
    structure = recorded.call.copy()
    for field, number, offset in recorded.places.reshape(-1, 3):
        structure[field // 8] = arrays[number].ctypes.data + offset
    filled = interface.Recurrence.from_buffer(structure)
    assert getattr(loading.loaded(), recorded.function)(ctypes.byref(filled)) == 0
    np.testing.assert_allclose(outputs, expected, rtol=1e-12)
