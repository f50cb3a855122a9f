"""What counts in a record: only what reaches the weights; truth is the same step alone."""

import gc
import math
from contextlib import contextmanager

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import B, D, H, T, curve_of, data, near, sgd, step, trained_once

from unrolled.watch import watch


class WithLoss(nn.Module):
    """A model that returns its loss."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out, self.criterion = nn.GRU(D, H), nn.Linear(H, 1), nn.MSELoss()

    def forward(self, x):
        y = self.out(self.rnn(x)[0][-1])
        return self.criterion(y, torch.ones_like(y))


def same(record, truth):
    assert record.loss == near(truth.loss)
    assert record.first_not_finite is truth.first_not_finite is None
    assert record.gradient_norm == near(truth.gradient_norm)
    assert record.layers.keys() == truth.layers.keys()
    assert curve_of(record) == near(curve_of(truth))


@contextmanager
def as_alone():
    """A watched model; its record must be that of one step with nothing else around it."""
    model = WithLoss()
    truth, _ = trained_once(model, lambda: model(data()))
    model.zero_grad()
    with watch(model) as watched:
        yield model, watched
        sgd(model, 0.0).step()
        same(watched.last, truth)


@pytest.mark.parametrize("kept", [False, True])
def test_validation_that_forgets_no_grad_leaves_no_loss_and_no_nan(kept):
    with as_alone() as (model, watched):
        losses = [model(data(seed, scale=30.0)) for seed in range(3)]
        losses.append(model(data() * math.nan))
        if not kept:
            losses.clear()
        model(data()).backward()
        losses.append(model(data(5)))
    assert watched.diagnose() == []
    assert watched.last.loss == near(model(data()).item())


@pytest.mark.parametrize("again", [False, True])
def test_gradients_of_inputs_alone_do_not_count(again):
    with as_alone() as (model, _):
        x = data().requires_grad_()
        loss = model(x)
        (slope,) = torch.autograd.grad(loss, x, retain_graph=again)
        assert slope.norm() > 0
        (loss if again else model(data())).backward()


def test_a_backward_pass_that_fails_leaves_no_trace():
    def boom(gradient):
        raise ZeroDivisionError

    with as_alone() as (model, _):
        bad = data(2).requires_grad_() * 1
        bad.register_hook(boom)
        with pytest.raises(ZeroDivisionError):
            model(bad).backward()
        model.zero_grad()
        model(data()).backward()


def test_nothing_grows_while_nothing_is_sent_back():
    model = WithLoss()
    with watch(model) as watched:
        sizes = []
        for _ in range(2):
            for _ in range(50):
                model(data())
            gc.collect()
            passing = watched.forward_trace
            sizes.append([len(each) for each in vars(passing).values() if hasattr(each, "__len__")])
        assert sizes[0] == sizes[1]
        assert (passing.own, passing.waiting) == ([], {})


@pytest.mark.parametrize("clear_late", [False, True])
@pytest.mark.parametrize("to_none", [False, True])
def test_a_minibatch_whose_gradients_are_cleared_leaves_no_trace(clear_late, to_none):
    with as_alone() as (model, watched):
        for x in (data() * math.nan, data(3, scale=30.0), data()):
            if not clear_late:
                model.zero_grad(to_none)
            loss = model(x)
            watched.loss(loss)
            model.zero_grad(to_none)
            loss.backward()


@pytest.mark.parametrize("to_none", [False, True])
def test_clearing_takes_back_what_one_graph_had_brought(to_none):
    model = nn.GRU(D, H)
    with watch(model) as watched:
        found = []
        for discarded in (False, True):
            model.zero_grad(to_none)
            Y, _ = model(data())
            if discarded:
                Y.sum().backward(retain_graph=True)
                model.zero_grad(to_none)
            step(model, Y.pow(2).sum())
            found.append(watched.last.layers)
    assert found[0].keys() == found[1].keys() == {"gru"}
    assert found[1]["gru"].hidden_gradient_mean == near(found[0]["gru"].hidden_gradient_mean)


def test_gradients_that_are_added_up_all_count():
    model = WithLoss()
    losses = []
    with watch(model) as watched:
        for seed in range(3):
            loss = model(data(seed))
            loss.backward()
            losses.append(loss.item())
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        for p in model.parameters():
            p.grad = p.grad / 3  # in place of the old one
        loss = model(data(3))
        step(model, loss)
        assert watched.last.loss == near((sum(losses) + loss.item()) / 4)


def test_a_graph_counts_once_in_a_step_and_in_each_of_two_steps():
    class Shift(nn.Module):  # its graph outlives a step: no weight is needed on the way back
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.ones(D))

        def forward(self, x):
            return (x + self.by).sum()

    model = Shift()
    with watch(model) as watched:
        loss = model(data())
        for passes in (2, 1):
            model.zero_grad()
            for _ in range(passes):
                loss.backward(retain_graph=True)
            sgd(model, 0.0).step()
            assert watched.last.loss == near(loss.item())
        assert watched.steps == 2


def test_gradients_that_are_put_in_place_by_hand():
    model = WithLoss()
    truth, _ = trained_once(model, lambda: model(data()))
    with watch(model) as watched:
        model(data(2))
        found = torch.autograd.grad(model(data()), list(model.parameters()))
        for p, gradient in zip(model.parameters(), found, strict=True):
            p.grad = gradient
        sgd(model, 0.0).step()
        record = watched.last
    assert record.loss == near(truth.loss)
    assert curve_of(record) == near(curve_of(truth))
    norms = {name: p.gradient_norm for name, p in truth.parameters.items()}
    assert {name: p.clipped_norm for name, p in record.parameters.items()} == near(norms)
    # whether they were clipped before they were put there, nobody has seen
    assert (record.gradient_norm, record.clip_coefficient) == (None, None)


def test_a_frozen_layer_that_breaks_is_named():
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, 1)).requires_grad_(False)
    model[1].requires_grad_(True)
    model[0].bias[0] = math.inf
    with watch(model) as watched:
        model(torch.ones(2, D)).sum().backward()
        sgd(model[1]).step()
        assert watched.last.first_not_finite == "the output of 0"


@pytest.mark.parametrize(("activation", "share"), [(torch.tanh, 1.0), (torch.relu, 0.0)])
def test_only_states_that_keep_to_one_count_as_saturated(activation, share):
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(H))

        def forward(self, x, h):
            return activation(self.w * x + h)

    model, h = Cell(), torch.zeros(B, H)
    with watch(model, states={"cell": "h"}) as watched:
        for _ in range(T):
            h = model(torch.full((B, H), 8.0), h)
        step(model, h.sum())
        ((_, layer),) = watched.last.layers.items()
    assert layer.saturated == share
