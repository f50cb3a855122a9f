"""Loss scalers beside a watch: told, or seen by what they do to an optimizer."""

import copy
import math

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import D, Reader, curve_of, data, near, norm, sgd, trained_once

from unrolled.watch import watch


@pytest.mark.parametrize(
    ("fused", "told", "clip"),  # a fused optimizer unscales by itself
    [(False, True, False), (False, True, True), (True, False, False), (True, True, False),
     (True, True, True)],
)  # fmt: skip
def test_a_loss_scaler_is_taken_back(fused, told, clip):
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    copied = copy.deepcopy(model)
    plain, _ = trained_once(copied, lambda: copied(data()).pow(2).mean())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    with watch(model, scaler=scaler if told else None) as watched:
        scaler.scale(model(data()).pow(2).mean()).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), plain.gradient_norm / 2)
        scaler.step(optimizer)
        scaler.update()
        record = watched.last
    assert record.gradient_norm == near(plain.gradient_norm, 1e-4)
    assert record.clip_coefficient == near(0.5 if clip else 1.0, 1e-3)
    assert curve_of(record) == near(curve_of(plain), 1e-4)


@pytest.mark.parametrize("told", [False, True])
def test_a_step_that_the_scaler_skips_is_no_step(told):
    model = Reader()
    optimizer = sgd(model, 1e-6)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    with watch(model, scaler=scaler if told else None) as watched:
        for _ in range(30):
            optimizer.zero_grad()
            scaler.scale(1e3 * model(data()).pow(2).mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert watched.skipped > 0
        assert watched.steps + watched.skipped == 30
        assert watched.records[0].step == 1
        assert watched.records[0].first_not_finite is None
        assert math.isfinite(watched.records[0].gradient_norm)


class OwnScaler:
    """A loss scaler of a kind that nobody knows; it leaves the division to the optimizer."""

    def scale(self, loss):
        return 256.0 * loss

    def step(self, optimizer):
        optimizer.found_inf = torch.zeros(())
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad /= 256.0
        optimizer.step()
        del optimizer.found_inf


@pytest.mark.parametrize("told", [False, True])
def test_of_a_scaler_of_unknown_kind_nothing_is_recorded_unless_it_is_told(told):
    model, scaler = Reader(), OwnScaler()
    optimizer = torch.optim.SGD(model.parameters(), 0.0, fused=True)
    model(data()).pow(2).mean().backward()
    truth = norm(model.parameters())
    optimizer.zero_grad()
    with watch(model, scaler=scaler if told else None) as watched:
        scaler.scale(model(data()).pow(2).mean()).backward()
        if told:
            scaler.step(optimizer)
        else:
            with pytest.warns(RuntimeWarning, match="scaler=scaler"):
                scaler.step(optimizer)
        record = watched.last
    assert record.clipped_norm == near(truth)
    assert record.gradient_norm == (near(truth) if told else None)
    assert list(record.layers) == (["rnn"] if told else [])
    assert ("scaler" in watched.notes) != told


def test_float16_beside_weights_in_float32_asks_for_the_scaler():
    torch.manual_seed(0)
    model = nn.Linear(D, 1)
    optimizer = sgd(model, 0.0)
    scaler = torch.amp.GradScaler("cpu")
    with watch(model) as watched:
        with torch.autocast("cpu", torch.float16):
            loss = model(data()).float().pow(2).mean()
        scaler.scale(loss).backward()
        with pytest.warns(RuntimeWarning, match="scaler=scaler"):
            scaler.step(optimizer)
        assert watched.last.gradient_norm is None
        assert watched.last.clipped_norm > 0


def test_gradients_that_become_very_much_smaller_are_asked_about():
    model = Reader()
    optimizer = sgd(model, 0.0)
    with watch(model) as watched:
        model(data()).pow(2).mean().backward()
        truth = norm(model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), truth / 2000)
        optimizer.step()
        assert watched.last.gradient_norm == near(truth)
        assert "loss scaler" in watched.notes["scaler"]


def test_another_model_s_scaler_is_not_taken_for_this_one_s():
    other, scaler = Reader(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    model, beside = Reader(), sgd(other)
    optimizer = sgd(model, 0.0)
    with watch(model) as watched:
        scaler.scale(other(data()).sum()).backward()
        scaler.step(beside)
        model(data()).pow(2).mean().backward()
        truth = norm(model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), truth / 4)
        optimizer.step()
        assert watched.last.gradient_norm == near(truth)
        assert watched.last.clip_coefficient == near(0.25, 1e-3)
    assert watched.notes == {}


@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_that_is_complete_only_later_has_the_scale_that_it_had_then(scaled):
    model, scaler = Reader(), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.rnn.parameters(), 0.0)  # the rest is never moved
    with watch(model, scaler=scaler if scaled else None) as watched:
        for _ in range(2):
            model.zero_grad()
            loss = model(data()).pow(2).mean()
            (scaler.scale(loss) if scaled else loss).backward()
            truth = norm(model.rnn.parameters()) / (scaler.get_scale() if scaled else 1.0)
            if scaled:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.rnn.parameters(), truth / 2)
            scaler.step(optimizer) if scaled else optimizer.step()
            scaler.update() if scaled else None
            model(data())
            assert watched.last.gradient_norm == near(truth, 1e-4)
            assert watched.last.clip_coefficient == near(0.5, 1e-3)
    assert watched.notes == {}
