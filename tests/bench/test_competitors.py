"""The comparison is fair: everybody computes the same from the same weights and minibatches."""

import numpy as np
import pytest

from unrolled.backends.numpy import xp
from unrolled.bench.competitors import COMPETITORS
from unrolled.bench.task import Task
from unrolled.functional.losses import cross_entropy
from unrolled.functional.recurrent import CELLS

TASK = Task(H=8, B=3, T=4, seed=4)

HERE = [name for name, c in COMPETITORS.items() if not c.absent()]

OWN_BIASES = {"nn", "keras-tensorflow"}
"""Their layers have a bias twice, where ours has it once (or once where we have it twice, in the
GRU). The first loss is the same; after an update of both the next one is not."""


def task_for(cell):
    return Task(cell, TASK.H, TASK.B, TASK.T, seed=TASK.seed)


def true_losses(task, count):
    """The first losses in NumPy, float64: gradients by central differences of the whole loss."""
    values = {name: value.astype(np.float64) for name, value in task.values().items()}
    cell = CELLS[task.cell]
    state = tuple(np.zeros((task.B, task.H)) for _ in range(cell.num_states))

    def loss(values, batch):
        X, Y = batch
        *weights, W_hq, b_q = values.values()
        outputs, last = cell.forward(xp, X.T, state, *weights)
        logits = outputs.reshape(-1, task.H) @ W_hq + b_q
        return float(cross_entropy(xp, logits, Y.T.reshape(-1))), last

    losses = []
    for batch in task.first(count):
        value, last = loss(values, batch)
        losses.append(value)
        grads = {}
        for name, array in values.items():
            grads[name] = np.empty_like(array)
            for place in np.ndindex(array.shape):
                kept, sides = array[place], []
                for step in (1e-5, -1e-5):
                    array[place] = kept + step
                    sides.append(loss(values, batch)[0])
                array[place] = kept
                grads[name][place] = (sides[0] - sides[1]) / 2e-5
        norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
        for name, grad in grads.items():
            values[name] = values[name] - grad / max(norm, 1)
        state = last
    return losses


@pytest.fixture(scope="module")
def truth():
    return {cell: true_losses(task_for(cell), 2) for cell in CELLS}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", HERE)
def test_everybody_computes_the_same_losses(truth, name, cell):
    competitor, task = COMPETITORS[name], task_for(cell)
    competing = competitor.start(task)
    losses = [competing([batch])() for batch in task.first(2)]
    rounding = 1e-2 if competitor.precision == "bfloat16" else 2e-5
    assert losses[0] == pytest.approx(truth[cell][0], rel=rounding)
    if name not in OWN_BIASES:
        assert losses[1] == pytest.approx(truth[cell][1], rel=rounding)
    else:  # it learned, and it carried its state
        assert losses[1] == pytest.approx(truth[cell][1], rel=0.02)
        assert losses[1] != losses[0]
