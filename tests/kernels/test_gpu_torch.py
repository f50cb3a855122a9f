"""Every engine for GPUs computes what the formula computes, and choosing one disturbs nothing.

Without a GPU the same code works on CPU tensors; a session with one has but to run this file.
"""

import sys
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from gpu import DEVICE, needs_gpu, record, torch
from unrolled.backends import torch as backend
from unrolled.errors import SettingError
from unrolled.functional.bptt import GATES
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels import on_gpu
from unrolled.kernels import torch as kernels
from unrolled.kernels.gpu import torch as gpu
from unrolled.kernels.gpu.choice import Choices

ALL = {cell.engine: cell for cell in (*CELLS.values(), RELU_RNN)}
SIZES = (4, 3, 2, 5)
ENGINES = (
    "cuDNN",
    "PyTorch's operations",
    "a CUDA graph of them",
    "persistent Triton",
    "a CUDA graph of Triton by steps",
)

# cuDNN's complaint that it has to copy weights, should it have to
pytestmark = pytest.mark.filterwarnings("ignore:RNN module weights are not part")

cells = pytest.mark.parametrize("cell", ALL.values(), ids=ALL)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No choices from elsewhere; graphs that work without a GPU; no TF32, which is cuDNN's way."""
    monkeypatch.setattr(gpu, "choices", Choices())
    monkeypatch.setattr(gpu, "Graphs", partial(gpu.Graphs, record=record))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def winning(name):
    """Choices by a clock that stands still, where the first wins, and this engine is it."""

    class Rigged(Choices):
        def take(self, problem, makers, run, distance):
            return super().take(problem, {n: makers[n] for n in (name, *makers)}, run, distance)

    return Rigged(lambda: 0.0)


def arrays(cell, sizes=SIZES, ids=False):
    """X, state, weights, that want gradients."""
    T, B, D, H = sizes
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return (torch.randn(shape, generator=generator) * H**-0.5).to(DEVICE).requires_grad_()

    X = torch.randint(D, (T, B), generator=generator).to(DEVICE) if ids else draw(T, B, D)
    state = tuple(draw(B, H) for _ in range(cell.num_states))
    return X, state, [draw(*shape) for shape in cell.shapes(D, H).values()]


def taps_of(cell, sizes=SIZES):
    T, B, _, H = sizes
    G = len(GATES[cell.engine])
    return tuple(torch.zeros(T, B, n, device=DEVICE, requires_grad=True) for n in (H, G * H))


def solve(run, X, state, weights, taps=()):
    """Outputs, last state, and the gradients of all that goes in."""
    outputs, last = run(X, state, weights)
    loss = outputs.square().sum() + sum((i + 2) * x.sum() for i, x in enumerate(last))
    leaves = [x for x in (X, *state, *weights, *taps) if x.requires_grad]
    return tuple(x.detach() for x in (outputs, *last, *torch.autograd.grad(loss, leaves)))


def assert_near(found, expected, tolerance=1e-4):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.to_dense(), theirs, rtol=tolerance, atol=tolerance)


@cells
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("ids", [False, True], ids=["numbers", "ids"])
def test_every_engine_gives_the_numbers_of_the_formula(cell, name, ids):
    if "Triton" in name and not find_spec("triton"):
        pytest.skip("needs Triton")
    X, state, weights = given = arrays(cell, ids=ids)
    problem = gpu.Problem.of(cell.engine, X, state, weights, ())
    engine = gpu.makers(problem)[name]()
    expected = solve(lambda X, s, w: cell.forward(backend.xp, X, s, *w), *given)
    found = solve(lambda X, s, w: engine(cell.engine, X, s, w, ()), *given)
    assert_near(found, expected)


@cells
def test_gradients_through_time_come_from_all_but_the_vendor(cell):
    X, state, weights = given = arrays(cell)
    taps, results = taps_of(cell), {}
    makers = gpu.makers(gpu.Problem.of(cell.engine, X, state, weights, taps))
    assert tuple(makers) == ENGINES[1:]
    for name, make in makers.items():
        if "Triton" in name and not find_spec("triton"):
            continue
        run = partial(make(), cell.engine, taps=taps)
        results[name] = solve(run, *given, taps)
    expected = results[ENGINES[1]]
    assert expected[-2].norm() > 0.1
    for found in results.values():
        assert_near(found, expected)


@cells
def test_what_wins_computes(cell, monkeypatch):
    monkeypatch.setattr(gpu, "choices", winning("a CUDA graph of them"))
    given = arrays(cell)
    for _ in range(2):  # a first and a later call
        found = solve(partial(gpu.recur, cell.engine), *given)
        expected = solve(lambda X, s, w: cell.forward(backend.xp, X, s, *w), *given)
        assert_near(found, expected)
    ((problem, verdict),) = gpu.choices.verdicts.items()
    assert verdict.winner == "a CUDA graph of them"
    assert str(problem) == f"{cell.engine}, 4 steps of 3 sequences, 5 units, forward and back"


def test_all_engines_that_can_are_compared_and_the_others_say_why_not():
    X, state, weights = arrays(CELLS["gru"])
    gpu.recur("gru", X, state, weights)
    (verdict,) = gpu.choices.verdicts.values()
    assert {*verdict.seconds, *verdict.dropped} == {*ENGINES}
    if find_spec("triton"):
        assert not verdict.dropped
    else:
        assert "No module named 'triton'" in str(verdict)


def test_without_gradients_it_is_another_problem():
    X, state, weights = arrays(CELLS["rnn"])
    gpu.recur("rnn", X, state, weights)
    with torch.no_grad():
        outputs, _ = gpu.recur("rnn", X, state, weights)
    with torch.inference_mode():
        gpu.recur("rnn", X, state, weights)
    assert not outputs.requires_grad
    assert [p.differentiated for p in gpu.choices.verdicts] == [True, False]


def settings():
    """What a program may have set that measuring must leave alone."""
    generators = [torch.default_generator, *torch.cuda.default_generators]
    return (
        [generator.get_state().tolist() for generator in generators],
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.is_grad_enabled(),
    )


def test_measuring_leaves_no_trace():
    X, state, weights = arrays(CELLS["lstm"])
    weights[0].grad = torch.ones_like(weights[0])
    kept = []
    before = settings()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        gpu.recur("lstm", X, state, weights)
        measured = len(kept)
        gpu.recur("lstm", X, state, weights)
    assert len(kept) == 2 * measured > 0  # the second call kept as much as the first
    assert settings() == before
    assert weights[0].grad.eq(1).all()
    assert weights[1].grad is None


def test_it_can_be_measured_within_a_way_back():
    cell = CELLS["gru"]
    X, state, weights = arrays(cell)

    def layer(X):
        return gpu.recur("gru", X, state, weights)[0]

    # the way there runs without gradients, the problem with them comes up on the way back
    outputs = torch.utils.checkpoint.checkpoint(layer, X, use_reentrant=True)
    assert [p.differentiated for p in gpu.choices.verdicts] == [False]
    outputs.square().sum().backward()
    assert [p.differentiated for p in gpu.choices.verdicts] == [False, True]
    expected, _ = cell.forward(backend.xp, X, state, *weights)
    assert_near([X.grad], torch.autograd.grad(expected.square().sum(), X))


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda: torch.autocast(DEVICE.type, torch.bfloat16),
        lambda: torch.backends.cudnn.flags(enabled=True, deterministic=True),
    ],
    ids=["autocast", "deterministic"],
)
def test_where_time_must_not_decide_it_is_the_vendor(forbidden):
    X, state, weights = arrays(CELLS["gru"])
    with forbidden():
        gpu.recur("gru", X, state, weights)
    assert not gpu.choices.verdicts


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # what compiling loads
def test_what_pytorch_compiles_stays_whole_and_unmeasured():
    cell = CELLS["gru"]
    X, state, weights = arrays(cell)
    layer = partial(gpu.recur, "gru", state=state, weights=weights)
    outputs, _ = torch.compile(layer, backend="eager", fullgraph=True)(X)
    torch.compiler.reset()
    assert not gpu.choices.verdicts
    torch.testing.assert_close(outputs, cell.forward(backend.xp, X, state, *weights)[0])


def test_types_that_differ_are_computed_without_measuring():
    X, state, weights = arrays(CELLS["rnn"])
    taps = tuple(tap.detach().double() for tap in taps_of(CELLS["rnn"]))
    outputs, _ = gpu.recur("rnn", X, state, weights, taps)
    assert outputs.shape == (4, 3, 5)
    assert not gpu.choices.verdicts


def test_triton_is_not_loaded_where_that_would_crash(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: name)
    makers = gpu.makers(gpu.Problem.of("rnn", *arrays(CELLS["rnn"]), ()))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    with pytest.raises(ImportError, match="once TensorFlow is loaded"):
        makers["persistent Triton"]()


def test_ids_of_many_rows_do_not_become_one_hot():
    few, many = (arrays(CELLS["rnn"], (2, 3, rows, 5), ids=True) for rows in (4096, 4097))
    for given, first in ((few, "cuDNN"), (many, "PyTorch's operations")):
        assert next(iter(gpu.makers(gpu.Problem.of("rnn", *given, ())))) == first
    dense = arrays(CELLS["rnn"], (2, 3, 4097, 5))
    assert next(iter(gpu.makers(gpu.Problem.of("rnn", *dense, ())))) == "cuDNN"


def test_weights_on_a_gpu_take_this_way(monkeypatch):
    monkeypatch.setattr(gpu, "recur", lambda *given: (given, ()))
    given = ("rnn", "X", ("H",), [SimpleNamespace(is_cuda=True)], ("tap",), "float32")
    assert kernels.recur(*given) == (given, ())


def test_bfloat16_products_are_for_cpus():
    X, state, weights = arrays(CELLS["rnn"])
    with pytest.raises(SettingError, match=f"bfloat16 is for CPUs, these weights are on {DEVICE}"):
        gpu.recur("rnn", X, state, weights, precision="bfloat16")


def test_the_report_names_every_cell_and_its_engines():
    lines = list(gpu.report(DEVICE, SIZES))
    assert [line.partition(",")[0] for line in lines] == [*CELLS]
    assert all("cuDNN " in line and " ms" in line for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_nothing_to_report():
    assert on_gpu("torch") == []


@needs_gpu
@cells
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (35, 33, 28, 130), (20, 256, 64, 512)])
def test_on_a_gpu_no_engine_is_dropped_for_its_numbers(cell, sizes):
    given = arrays(cell, sizes)
    expected = solve(lambda X, s, w: cell.forward(backend.xp, X, s, *w), *given)
    found = solve(partial(kernels.recur, cell.engine), *given)
    assert gpu.distance(expected, found) < 1e-3
    (verdict,) = gpu.choices.verdicts.values()
    assert set(verdict.dropped) <= (set() if find_spec("triton") else {*ENGINES[3:]}), verdict
