"""The fused layers with our weights compute the formulas, and refuse nothing that was possible.

PyTorch has the same layers on the CPU, so no GPU is needed for this.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from unrolled.errors import SettingError
from unrolled.functional.bptt import GATES
from unrolled.functional.recurrent import CELLS, RELU_RNN

torch = pytest.importorskip("torch")

from unrolled.backends import torch as backend  # noqa: E402
from unrolled.kernels import torch as kernels  # noqa: E402
from unrolled.kernels.cudnn import torch as cudnn  # noqa: E402

ALL = [*CELLS.values(), RELU_RNN]
SIZES = (5, 3, 4, 6)

# cuDNN's complaint that it has to copy weights, should it have to
pytestmark = pytest.mark.filterwarnings("ignore:RNN module weights are not part")

cells = pytest.mark.parametrize("cell", ALL, ids=lambda cell: cell.engine)


def arrays(cell, sizes=SIZES, ids=False):
    """X, state, weights in float64, which want gradients."""
    T, B, D, H = sizes
    rng = np.random.default_rng(0)

    def tensor(*shape):
        return torch.tensor(rng.normal(size=shape) * H**-0.5, requires_grad=True)

    weights = [tensor(*shape) for shape in cell.shapes(D, H).values()]
    state = tuple(tensor(B, H) for _ in range(cell.num_states))
    return torch.tensor(rng.integers(0, D, (T, B))) if ids else tensor(T, B, D), state, weights


def solve(run, X, state, weights):
    """Outputs, last state, and the gradients of all that goes in."""
    outputs, last = run(X, state, weights)
    loss = outputs.square().sum() + sum((i + 2) * (part**2).sum() for i, part in enumerate(last))
    leaves = [x for x in (X, *state, *weights) if x.requires_grad]
    return outputs, *last, *torch.autograd.grad(loss, leaves)


@cells
@pytest.mark.parametrize("ids", [False, True])
def test_values_and_gradients_are_those_of_the_formula(cell, ids):
    given = arrays(cell, ids=ids)
    expected = solve(lambda *given: cell.forward(backend.xp, given[0], given[1], *given[2]), *given)
    found = solve(partial(cudnn.recur, cell.engine), *given)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@cells
def test_gradients_through_time_come_from_our_operations(cell):
    (T, B, _, H), G = SIZES, len(GATES[cell.engine])
    X, state, weights = arrays(cell)
    shapes = (T, B, H), (T, B, G * H)
    taps = tuple(torch.zeros(shape, dtype=X.dtype, requires_grad=True) for shape in shapes)
    assert cudnn.suits(X, state, weights)
    assert not cudnn.suits(X, state, weights, taps)
    outputs, _ = kernels.differentiable(kernels.OPERATIONS, cell.engine, X, state, weights, taps)
    expected = kernels.recur(cell.engine, X, state, weights, taps)[0]
    for found, of_kernels in zip(
        torch.autograd.grad(outputs.sum(), taps),
        torch.autograd.grad(expected.sum(), taps),
        strict=True,
    ):
        assert found.norm() > 0.1
        torch.testing.assert_close(found, of_kernels, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [4096, 4097])
@pytest.mark.parametrize("ids", [False, True])
def test_ids_of_many_rows_do_not_become_one_hot(rows, ids):
    given = arrays(CELLS["rnn"], (2, 3, rows, 5), ids)
    assert cudnn.suits(*given) == (rows == 4096 or not ids)


def test_types_that_differ_are_computed_by_our_operations():
    X, state, (W_x, W_h, b) = arrays(CELLS["rnn"])
    assert not cudnn.suits(X, state, (W_x, W_h, b.float()))


@pytest.mark.parametrize("suits", [True, False])
def test_weights_on_a_gpu_take_this_way_if_it_suits(monkeypatch, suits):
    X, state, weights = torch.ones(1), (torch.ones(1),), [SimpleNamespace(is_cuda=True)]
    monkeypatch.setattr(cudnn, "suits", lambda *given: suits)
    monkeypatch.setattr(cudnn, "recur", lambda *given: ("fused", given))
    monkeypatch.setattr(kernels, "differentiable", lambda _, *given: ("operations", given[:-1]))
    way, given = kernels.recur("rnn", X, state, weights, (), "float32", "auto")
    assert (way, given) == ("fused" if suits else "operations", ("rnn", X, state, weights))


def test_bfloat16_products_are_for_cpus():
    weights = [SimpleNamespace(is_cuda=True, device="cuda:0")]
    with pytest.raises(SettingError, match="bfloat16 is for CPUs, these weights are on cuda:0"):
        kernels.recur("rnn", torch.ones(1), (), weights, precision="bfloat16")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # what compiling loads
def test_what_pytorch_compiles_stays_whole():
    cell = CELLS["gru"]
    X, state, weights = arrays(cell)
    layer = partial(cudnn.recur, "gru", state=state, weights=weights)
    outputs, _ = torch.compile(layer, backend="eager", fullgraph=True)(X)
    torch.compiler.reset()
    torch.testing.assert_close(outputs, cell.forward(backend.xp, X, state, *weights)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@cells
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (35, 33, 28, 130), (20, 256, 64, 512)])
def test_on_a_gpu_it_is_the_formula_too(cell, sizes):
    X, state, weights = arrays(cell, sizes)
    on_gpu = (X.cuda(), tuple(part.cuda() for part in state), [W.cuda() for W in weights])
    found, _ = kernels.recur(cell.engine, *on_gpu)
    expected, _ = cell.forward(backend.xp, X, state, *weights)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-6)


def test_weights_lie_in_one_piece():
    # so does cuDNN want them, or it would copy them once more
    given = [torch.arange(6.0).reshape(2, 3).T, torch.arange(4.0), torch.ones(2, 2)]
    pieces = cudnn._in_one_piece(*given)
    torch.testing.assert_close(pieces, tuple(given))
    places = [piece.data_ptr() - pieces[0].data_ptr() for piece in pieces]
    assert places == [0, 6 * 4, 10 * 4]
    assert all(piece.is_contiguous() for piece in pieces)
