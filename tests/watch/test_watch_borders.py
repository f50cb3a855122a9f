"""Where a gradient was cut: only where a state was carried on, however it came there."""

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import B, D, H, Own, T, data, step

from unrolled.watch import watch

STARTS = {
    "none": lambda h: None,
    "zeros": torch.zeros_like,
    "zeroed": lambda h: h.zero_(),
    "random": torch.randn_like,
    "trained": lambda h: torch.ones_like(h).requires_grad_(),
    "a copy": torch.clone,
}
CARRIED = {
    "detached": lambda h: h,
    "a leaf of its own": lambda h: h.detach().requires_grad_(),
    "fewer": lambda h: h[..., :2, :],
}
KINDS = (nn.GRU, nn.LSTM, nn.RNNCell, nn.LSTMCell, Own)


def truncation_points(kind, next_state, every=1, validation=False):
    """Those of the last of four steps, in which state and minibatch come from the one before."""
    torch.manual_seed(0)
    model = kind(D, H)
    is_cell = isinstance(model, (nn.RNNCellBase, Own))
    has_c = kind in (nn.LSTM, nn.LSTMCell)
    first = torch.zeros(B, H) if is_cell else torch.zeros(1, B, H)
    state = next_state(first)
    states = {"own": "h"} if kind is Own else None
    with watch(model, every=every, states=states) as watched:
        for seed in range(4):
            size = B if state is None else state.shape[-2]
            x = data(seed)[:, :size]
            if validation:
                with torch.no_grad():
                    model(x[0] if is_cell else x)
            last = None if state is None else (state, torch.zeros_like(state)) if has_c else state
            for x_t in x if is_cell else (x,):
                last = model(x_t, last)
                last = last if is_cell else last[1]
            h = last[0] if has_c else last
            step(model, h.pow(2).sum())
            state = next_state(h.detach())
        ((_, layer),) = watched.last.layers.items()
        assert watched.notes == {}
        return layer.truncation_points


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRUCell, Own])
@pytest.mark.parametrize("how", STARTS)
def test_a_first_state_that_comes_from_nowhere_is_no_truncation_point(how, kind, every):
    assert truncation_points(kind, STARTS[how], every) == []


@pytest.mark.parametrize(("every", "validation"), [(1, False), (3, True)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", CARRIED)
def test_a_state_that_is_carried_on_is_a_truncation_point(how, kind, validation, every):
    assert truncation_points(kind, CARRIED[how], every, validation) == [0]


@pytest.mark.parametrize("how", [torch.Tensor.detach, CARRIED["a leaf of its own"]])
@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell, Own])
def test_a_state_that_is_cut_off_on_the_way_is_a_truncation_point(kind, how):
    model, states = kind(D, H), []
    h = torch.zeros((1, B, H) if kind is nn.GRU else (B, H))
    with watch(model, states={"own": "h"} if kind is Own else None) as watched:
        for t, x_t in enumerate(data(0)):
            h = how(h) if t == 4 else h
            h = model(x_t[None], h)[1] if kind is nn.GRU else model(x_t, h)
            states.append(h)
        step(model, sum(states).sum())
        ((_, layer),) = watched.last.layers.items()
    assert (len(layer.hidden_gradient_mean), layer.truncation_points) == (T, [4])
    assert layer.horizon_steps == T - 1 - 4


def test_a_state_that_was_warmed_up_without_gradients_is_carried_on():
    model = nn.GRU(D, H)
    with watch(model) as watched:
        with torch.no_grad():
            _, h = model(data(0))
        step(model, model(data(1), h)[0].sum())
        assert watched.last.layers["gru"].truncation_points == [0]


def test_a_random_first_state_is_not_found_to_be_truncation():
    def found(next_state):
        torch.manual_seed(0)
        model = nn.RNN(D, H)
        for p in model.parameters():
            p.data.copy_(0.8 * torch.eye(*p.shape) if p.dim() == 2 else 0 * p)  # falls, not far
        h = torch.zeros(1, B, H)
        with watch(model) as watched:
            for seed in range(30):
                model.zero_grad()
                _, last = model(0.1 * data(seed), next_state(h))
                step(model, last.sum())
                h = last.detach()
            return {finding.name for finding in watched.diagnose()}

    assert "truncation too short" in found(lambda h: h)
    assert "truncation too short" not in found(lambda h: 0.1 * torch.randn_like(h))
