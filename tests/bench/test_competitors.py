"""The comparison is fair: everybody computes the same from the same weights and minibatches."""

import numpy as np
import pytest

from parity.reference import LanguageModel
from unrolled.bench.competitors import COMPETITORS
from unrolled.bench.task import Task
from unrolled.functional.recurrent import CELLS

TASK = Task(H=8, B=3, T=4, seed=4)

HERE = [name for name, c in COMPETITORS.items() if not c.absent()]

OWN_BIASES = {"nn", "keras-tensorflow"}
"""Their layers have a bias twice, where ours has it once (or once where we have it twice, in the
GRU). The first loss is the same; after an update of both the next one is not."""


def task_for(cell):
    return Task(cell, TASK.H, TASK.B, TASK.T, seed=TASK.seed)


def true_losses(task, count):
    """The first losses in NumPy, float64, by gradients derived on paper."""
    reference = LanguageModel(task.cell, 1, task.V, task.H)
    values = {name: value.astype(np.float64) for name, value in task.values().items()}
    state, losses = reference.begin_state(task.B), []
    for X, Y in task.first(count):
        loss, gradients, state = reference.loss_and_gradients(values, X, Y, state)
        losses.append(loss)
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))
        for name, gradient in gradients.items():
            values[name] = values[name] - gradient / max(norm, 1)
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
    assert losses[0] == pytest.approx(truth[cell][0], rel=2e-5)
    if name not in OWN_BIASES:
        assert losses[1] == pytest.approx(truth[cell][1], rel=2e-5)
    else:  # it learned, and it carried its state
        assert losses[1] == pytest.approx(truth[cell][1], rel=0.02)
        assert losses[1] != losses[0]
