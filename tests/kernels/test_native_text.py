"""A text read by the native kernels against the formulas in NumPy."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled import native
from unrolled.backends.numpy import xp
from unrolled.functional import recurrent, sampling
from unrolled.native import interface, loading

usable, reason = native.available()
pytestmark = [
    pytest.mark.skipif(not usable, reason=reason),
    pytest.mark.usefixtures("instructions"),
]

CELLS = ("rnn", "rnn_relu", "gru", "lstm")
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
FORMULAS = {**recurrent.CELLS, "rnn_relu": recurrent.RELU_RNN}

all_cells = pytest.mark.parametrize("cell", CELLS)


def model_of(cell, H, V, layers=1, dtype="float64", with_b_hh=True):
    """Random weights by the names of what `native.Reader` takes."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(dtype)

    def of_gates(*shape):
        return [draw(*shape) for _ in range(native.CELLS[cell])]

    return SimpleNamespace(
        cell=cell,
        W_x=[of_gates(H if i else V, H) for i in range(layers)],
        W_h=[of_gates(H, H) for _ in range(layers)],
        biases=[of_gates(H) for _ in range(layers)],
        b_hh=[draw(H) for _ in range(layers)] if cell == "gru" and with_b_hh else [],
        W_hq=draw(H, V),
        b_q=draw(V),
    )


def reading_of(model, **options):
    return native.Reading(native.Reader(**vars(model), **options))


def truth(model, ids):
    """Logits after every id, by the formulas in float64, and the last state of each layer."""
    X, states = ids[:, np.newaxis], []
    for i, (W_x, W_h, b) in enumerate(zip(model.W_x, model.W_h, model.biases, strict=True)):
        weights = [w.astype("float64") for gate in zip(W_x, W_h, b, strict=True) for w in gate]
        zeros = np.zeros((1, len(W_h[0])))
        if model.cell == "gru":
            weights.append(model.b_hh[i].astype("float64") if model.b_hh else zeros[0])
        formula = FORMULAS[model.cell]
        X, state = formula.forward(xp, X, (zeros,) * formula.num_states, *weights)
        states.append([part[0] for part in state])
    return X[:, 0] @ model.W_hq + model.b_q, np.array(states)


def distance(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300)


@all_cells
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("H", "V", "layers", "threads"),
    [(1, 1, 1, 1), (1, 2, 3, 2), (5, 2, 1, 1), (16, 300, 2, 3), (70, 28, 3, 1), (513, 1, 2, 2)],
)
def test_logits_and_state_are_those_of_the_formula(cell, dtype, H, V, layers, threads):
    model = model_of(cell, H, V, layers, dtype)
    ids = np.random.default_rng(1).integers(0, V, 6)
    logits, state = truth(model, ids)
    reading = reading_of(model, threads=threads)
    assert not reading.state.any()
    for position in (slice(0, 3), slice(3, 4), slice(4, 6)):  # a text may come in pieces
        found = reading.read(ids[position])
        assert found.dtype == dtype
        assert distance(found, logits[position][-1]) < TOLERANCE[dtype]
    assert distance(reading.state, state) < TOLERANCE[dtype]


@settings(deadline=None, max_examples=30)
@given(
    cell=st.sampled_from(CELLS),
    H=st.integers(1, 300),
    V=st.integers(1, 300),
    layers=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_sizes_of_every_kind(cell, H, V, layers, dtype):
    model = model_of(cell, H, V, layers, dtype)
    ids = np.random.default_rng(1).integers(0, V, 3)
    found, expected = reading_of(model).read(ids), truth(model, ids)[0][-1]
    # a logit near 0 is the difference of larger numbers
    assert distance(found, expected) * min(1, np.abs(expected).max() / 0.1) < TOLERANCE[dtype]


def chosen(model, ids, count, choose, **options):
    """A text continued id by id: the kernels read, and `choose` chooses."""
    reading, found = reading_of(model, **options), []
    logits = reading.read(ids)
    for _ in range(count):
        found.append(choose(logits))
        logits = reading.read(np.array(found[-1:]))
    return found, logits


@all_cells
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("V", "threads"), [(1, 1), (2, 2), (28, 1), (300, 3)])
def test_what_is_written_is_what_is_chosen_step_by_step(cell, dtype, V, threads):
    model, ids = model_of(cell, 20, V, 2, dtype), np.array([0, V - 1, V // 2])
    how = {"threads": threads}
    expected, logits = chosen(model, ids, 30, sampling.greedy, **how)
    reading = reading_of(model, **how)
    assert reading.write(ids, 30).tolist() == expected
    assert np.array_equal(reading.logits, logits)
    for temperature in (1e-320, 0.3, 1, 5.0, 1e300):
        draw = sampling.Draw(np.random.default_rng(3), temperature)
        expected, _ = chosen(model, ids, 30, draw, **how)
        uniform = np.random.default_rng(3).random(30)
        reading = reading_of(model, **how)
        assert reading.write(ids, 30, uniform, temperature).tolist() == expected


def test_the_threads_of_a_frameworks_openmp():
    torch = pytest.importorskip("torch")
    assert torch.ones(200, 200).mm(torch.ones(200, 200))[0, 0] == 200  # they have started
    model, ids = model_of("lstm", 200, 30, 2), np.array([3])
    alone, together = (reading_of(model, threads=threads) for threads in (1, 2))
    assert np.array_equal(alone.write(ids, 50), together.write(ids, 50))
    assert np.array_equal(alone.state, together.state)
    assert 1 <= native.Reader(**vars(model)).threads <= torch.get_num_threads()


def logits_only(logits):
    """A model whose logits are always these."""
    model = model_of("rnn", 3, len(logits))
    model.W_hq[...], model.b_q[...] = 0, logits
    return reading_of(model)


LOGITS = {
    "equal": [1.0, 1.0, 1.0],
    "the last two are equal": [0.0, 2.0, 2.0],
    "some impossible": [-1e9, 0.0, -np.inf, 0.0, -1e9],
    "not a number": [0.0, np.nan, 5.0, np.nan],
    "infinite": [0.0, np.inf, 0.0],
}


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_edges_are_those_of_numpy(logits):
    assert logits_only(logits).write(np.array([0]), 1) == sampling.greedy(np.array(logits))
    for u in (0.0, 0.5, np.nextafter(0.5, 0), 1 - 2**-53):
        expected = sampling.draw(np.array(logits), SimpleNamespace(random=lambda u=u: u))
        assert logits_only(logits).write(np.array([0]), 1, np.array([u])) == expected


def test_without_a_bias_of_the_gru_candidate():
    model, ids = model_of("gru", 9, 4, with_b_hh=False), np.array([3, 1])
    assert distance(reading_of(model).read(ids), truth(model, ids)[0][-1]) < 1e-12


@all_cells
def test_texts_read_side_by_side_do_not_disturb_each_other(cell):
    model = model_of(cell, 40, 6, 2)
    reader, rng = native.Reader(**vars(model)), np.random.default_rng(2)
    texts = [(rng.integers(0, 6, 8), native.Reading(reader)) for _ in range(3)]
    found = [[] for _ in texts]
    for t in range(8):
        for (ids, reading), logits in zip(texts, found, strict=True):
            logits.append(reading.read(ids[t : t + 1]))
    for (ids, _), logits in zip(texts, found, strict=True):
        assert distance(np.array(logits), truth(model, ids)[0]) < 1e-12


def test_the_weights_live_as_long_as_their_reader():
    model, ids = model_of("gru", 64, 50), np.arange(50)
    expected, reading = truth(model, ids)[0][-1], reading_of(model)
    del model
    spoiled = [np.full((50, 64), np.nan) for _ in range(50)]  # where arrays were given back
    assert distance(reading.read(ids), expected) < 1e-12
    del spoiled


BAD = {
    "shape": {"W_h": [[np.zeros((5, 6))]]},
    "not contiguous": {"W_hq": np.zeros((4, 5)).T},
    "type": {"b_q": np.zeros(4, "float32")},
    "half precision": {"W_hq": np.zeros((5, 4), "float16")},
    "unknown cell": {"cell": "rmn"},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused(change):
    model = model_of("rnn", 5, 4)
    vars(model).update(change)
    with pytest.raises(ValueError, match=r"expected|float16|'rmn'"):
        reading_of(model)


@pytest.mark.parametrize("ids", [[4], [0, -1], []], ids=["too large", "negative", "none"])
def test_ids_are_checked_and_a_refused_text_goes_on(ids):
    model = model_of("rnn", 5, 4)
    reading = reading_of(model)
    with pytest.raises(ValueError, match=r"id is negative|size is zero"):
        reading.read(np.array(ids, np.int64))
    logits = truth(model, np.array([2]))[0][-1]
    assert distance(reading.read(np.array([2])), logits) < 1e-12


def test_the_library_itself_refuses_what_would_crash():
    functions, reading = loading.loaded(), reading_of(model_of("lstm", 3, 2))
    reading.read(np.array([0]))
    for name in ("W_hq", "b_q", "packed", "layer"):
        model = interface.LanguageModel.from_buffer_copy(reading.reader.model)
        setattr(model, name, None)
        assert functions.unrolled_pack(ctypes.byref(model)) == 1

    def answer(**changes):
        text = interface.Text.from_buffer_copy(reading.text)
        for name, value in changes.items():
            setattr(text, name, value)
        return functions.unrolled_read(ctypes.byref(text))

    for name in ("model", "ids", "state", "logits", "workspace"):
        assert answer(**{name: None}) == 1
    assert [answer(threads=0), answer(T=0), answer(given=0), answer(given=2)] == [1] * 4
    assert answer(uniform=np.zeros(1).ctypes.data, temperature=0.0) == 1
    assert answer() == 0
    model = interface.LanguageModel.from_buffer_copy(reading.reader.model)
    model.precision = interface.PRECISIONS.index("bfloat16")
    assert functions.unrolled_pack(ctypes.byref(model)) == 1
    model.precision, model.instructions = 0, 99
    assert functions.unrolled_pack(ctypes.byref(model)) == 3
