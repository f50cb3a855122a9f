"""States of several layers in modules of one's own, and states that are written to."""

import gc

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import B, D, H, data, means, near, step

from unrolled.watch import watch


class Stacked(nn.Module):
    """Layers of its own, the states of all in one tensor ``(layers, B, H)``."""

    def __init__(self, layers):
        super().__init__()
        torch.manual_seed(0)
        self.x, self.h = nn.Linear(D, H), nn.Parameter(torch.randn(layers, H, H) / 2)

    def forward(self, x, h):
        below, states = self.x(x), []
        for state, weight in zip(h, self.h, strict=True):
            below = torch.tanh(below + state @ weight)
            states.append(below)
        return torch.stack(states).reshape(h.shape)


def run(model, h, inputs):
    """The states of all steps, which keep their gradients."""
    states = []
    for x in inputs:
        h = model(x, h)
        h.retain_grad()
        states.append(h)
    return states


@pytest.mark.parametrize("layers", [1, 2])
def test_the_mean_over_the_batch_is_over_its_axis(layers):
    model = Stacked(layers)
    with watch(model, states={"stacked": ("h", 1)}) as watched:
        states = run(model, torch.zeros(layers, B, H), data())
        step(model, states[-1].pow(2).sum())
        ((_, layer),) = watched.last.layers.items()
        assert watched.notes == {}
    norms = [h.grad.transpose(0, 1).flatten(1).norm(dim=1) for h in states]
    assert layer.hidden_gradient_mean == near([norm.mean().item() for norm in norms])
    assert layer.hidden_gradient_max == near([norm.max().item() for norm in norms])


def test_where_the_axis_of_the_batch_is_not_told_a_note_says_so():
    model = Stacked(2)
    with watch(model, states={"stacked": "h"}) as watched:
        states = run(model, torch.zeros(2, 2, H), data()[:, :2])
        step(model, states[-1].pow(2).sum())
        (note,) = watched.notes.values()
    assert "(2, 2, 5)" in note
    assert "states={'stacked': ('h', 1)}" in note


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_saturation_of_a_cell_is_that_of_what_it_gave_out(kind, written):
    if written and kind is nn.RNNCell:
        pytest.skip("it needs its output for the backward pass")
    model, state, given_out = kind(D, H), None, []
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(20 * p if kind is nn.GRUCell else 1 + p)
    with watch(model) as watched:
        for x in 5 * data().abs():
            state = model(x, state)
            h = state[0] if kind is nn.LSTMCell else state
            given_out.append(h.detach().clone())
            if written:
                h.mul_(0.5)
        step(model, h.sum())
        ((name, layer),) = watched.last.layers.items()
        assert ("saturation is not known" in watched.notes.get(name, "")) == written
    share = (torch.stack(given_out).abs() > 0.99).float().mean().item()
    assert share > 0.1
    assert layer.saturated == (None if written else near(share))
    assert layer.cell == {nn.RNNCell: "rnn", nn.GRUCell: "gru", nn.LSTMCell: "lstm"}[kind]


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight_hh = nn.Parameter(torch.randn(H, H))

    def forward(self, x, h):
        return torch.tanh(x + h @ self.weight_hh)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [nn.GRUCell, Plain])
def test_a_parametrized_cell_is_looked_at_and_trains_as_without_a_watch(kind, when):
    states = {"cell": "h"} if kind is Plain else None

    def trained(watches):
        torch.manual_seed(0)
        model = nn.ModuleDict({"cell": Plain() if kind is Plain else kind(H, H)})
        watched = watch(model, states=states) if watches and when == "after" else None
        nn.utils.parametrizations.spectral_norm(model["cell"], "weight_hh")
        watched = watch(model, states=states) if watches and when == "before" else watched
        for _ in range(3):
            model.zero_grad()
            hidden = run(model["cell"], torch.zeros(B, H), data(width=H))
            step(model, hidden[-1].sum(), lr=0.1)
        if watched is not None:
            watched.close()
            assert watched.last.layers["cell"].hidden_gradient_mean == near(means(hidden))
        return model.state_dict()

    alone, beside = trained(watches=False), trained(watches=True)
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell])
def test_a_minibatch_without_sequences_leaves_no_note(kind):
    model = kind(D, H)
    with watch(model) as watched:
        for batch in (B, 0, B):
            model.zero_grad()
            x = data()[:, :batch]
            step(model, (model(x)[0] if kind is nn.GRU else model(x[0])).sum())
        assert [len(record.layers) for record in watched.records] == [1, 0, 1]
        assert watched.notes == {}


@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell])
def test_a_state_that_is_handed_on_for_ever_keeps_no_graph(kind):
    model = kind(D, H)
    with watch(model) as watched:
        sizes, h = [], None
        for _ in range(3):
            for _ in range(20):
                last = model(data(), h)[1] if kind is nn.GRU else model(data()[0], h)
                h = last.detach()
            gc.collect()
            (sequence,) = watched.recurrences.by_end.values()
            sizes.append(len(sequence.calls) <= 2)
        assert sizes == [True] * 3
