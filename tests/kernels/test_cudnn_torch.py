"""The vendor's fused layers with our weights compute what our formulas compute.

PyTorch has the same layers on the CPU, so no GPU is needed for this.
"""

import numpy as np
import pytest

from unrolled.functional.bptt import GATES
from unrolled.functional.recurrent import CELLS, RELU_RNN

torch = pytest.importorskip("torch")

from unrolled.backends import torch as backend  # noqa: E402
from unrolled.kernels.cudnn import torch as cudnn  # noqa: E402

ALL = [*CELLS.values(), RELU_RNN]


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("cell", ALL, ids=lambda cell: cell.engine)
def test_values_and_gradients_are_those_of_the_formula(cell, ids):
    T, B, D, H = 5, 3, 4, 6
    rng = np.random.default_rng(0)

    def tensor(shape):
        return torch.tensor(rng.normal(size=shape), requires_grad=True)  # float64

    weights = [tensor(shape) for shape in cell.shapes(D, H).values()]
    state = tuple(tensor((B, H)) for _ in range(cell.num_states))
    X = torch.tensor(rng.integers(0, D, (T, B))) if ids else tensor((T, B, D))
    weigh = torch.tensor(rng.normal(size=(T, B, H)))
    results = []
    for run in (
        lambda: cell.forward(backend.xp, X, state, *weights),
        lambda: cudnn.recur(cell.engine, X, state, weights, GATES[cell.engine]),
    ):
        outputs, last = run()
        loss = (outputs * weigh).sum() + sum((part**2).sum() for part in last)
        leaves = [*weights, *state] + ([] if ids else [X])
        results.append([outputs, *last, *torch.autograd.grad(loss, leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9)


def test_weights_lie_in_one_piece():
    # so does cuDNN want them, or it would copy them once more
    arrays = [torch.arange(6.0).reshape(2, 3).T, torch.arange(4.0), torch.ones(2, 2)]
    pieces = cudnn._in_one_piece(*arrays)
    torch.testing.assert_close(pieces, tuple(arrays))
    places = [piece.data_ptr() - pieces[0].data_ptr() for piece in pieces]
    assert places == [0, 6 * 4, 10 * 4]
    assert all(piece.is_contiguous() for piece in pieces)
