"""Packed sequences in float64, against every sequence by itself under autograd."""

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from unrolled.watch import watch

D, H = 3, 5
LENGTHS = [7, 5, 5, 3, 3, 3, 1]
CELLS = {nn.RNN: nn.RNNCell, nn.GRU: nn.GRUCell, nn.LSTM: nn.LSTMCell}


def norms_alone(layer, x, suffix):
    """``||dL/dh_t||`` of one sequence, in the order in which the direction reads it."""
    cell = CELLS[type(layer)](D, H).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({n: getattr(layer, f"{n}_l0{suffix}").detach() for n in names})
    state, hidden = None, []
    for x_t in x.flip(0) if suffix else x:
        state = cell(x_t[None], state)
        hidden.append(state[0] if isinstance(state, tuple) else state)
        hidden[-1].retain_grad()
    sum(h.sin().sum() for h in hidden).backward()
    return [h.grad.norm().item() for h in hidden]


@pytest.mark.parametrize("kind", CELLS)
def test_means_over_what_still_runs_are_exact(kind):
    torch.manual_seed(0)
    T, B = max(LENGTHS), len(LENGTHS)
    layer, x = kind(D, H, bidirectional=True).double(), torch.randn(T, B, D).double()
    with watch(layer) as watched:
        Y, _ = layer(pack_padded_sequence(x, LENGTHS))
        Y.data.sin().sum().backward()
        torch.optim.SGD(layer.parameters(), lr=0.0).step()
        layers, name = watched.last.layers, kind.__name__.lower()
    for suffix, found in (("", layers[name]), ("_reverse", layers[f"{name}.backward"])):
        alone = [norms_alone(layer, x[:n, b], suffix) for b, n in enumerate(LENGTHS)]
        running = [[norms[t] for norms in alone if t < len(norms)] for t in range(T)]
        # a direction that reads backwards begins at the last place, with all sequences
        running = running[::-1] if suffix else running
        means = [sum(norms) / len(norms) for norms in running]
        assert found.hidden_gradient_mean == pytest.approx(means, rel=1e-10, abs=0)
        assert found.hidden_gradient_max == pytest.approx(list(map(max, running)), rel=1e-10, abs=0)
