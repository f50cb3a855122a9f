"""Weights that are moved by hand: a step where that is said, and a warning where it is not."""

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import linear, loss, near, norm, sgd

from unrolled.watch import watch


@pytest.mark.parametrize("every", [1, 2])
def test_weights_moved_through_data_make_a_step_where_that_is_said(every):
    model, truth = linear(), []
    with watch(model, every=every) as watched:
        for number in range(4):
            model.zero_grad()
            value = loss(model, number)
            watched.loss(value)
            value.backward()
            whole = norm(model.parameters())
            nn.utils.clip_grad_norm_(model.parameters(), whole / 4)
            before = model.weight.detach().clone()
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-0.01)
            watched.step()
            watched.step()  # there is nothing more to step with
            moved = ((model.weight - before).norm() / before.norm()).item()
            truth.append((whole, value.item(), moved))
        records, notes = watched.records, watched.notes
    truth = truth[::every]
    assert [r.gradient_norm for r in records] == near([whole for whole, _, _ in truth])
    assert [r.loss for r in records] == near([value for _, value, _ in truth])
    assert [r.clip_coefficient for r in records] == near([0.25] * len(truth), 1e-3)
    ratios = [r.parameters["weight"].update_ratio for r in records]
    assert ratios[0] is None  # until then nobody knew that copies of the weights are needed
    assert ratios[1:] == near([moved for _, _, moved in truth][1:], 1e-3)
    assert notes == {}


@pytest.mark.parametrize("through_data", [True, False])
def test_weights_moved_by_hand_are_told_of_at_once(through_data, tmp_path, unrolled):
    model, out = linear(), tmp_path / "mine"
    watched = watch(model, out=out)

    def train():
        for number in range(10):
            model.zero_grad()
            loss(model, number).backward()
            with torch.no_grad():
                for p in model.parameters():
                    (p.data if through_data else p).add_(p.grad, alpha=-0.01)
            seen.append(number)

    seen = []
    with pytest.raises(RuntimeWarning, match=r"moved 3 times.*watched\.step\(\)"):
        train()  # warnings are errors here
    assert len(seen) == 3
    text = unrolled("diagnose", out).out  # also of a run that nobody has closed
    assert "moved 3 times" in " ".join(text.split())
    train()  # it is said once
    watched.step()
    assert watched.notes == {}
    watched.close()


def test_minibatches_that_add_up_are_no_moved_weights():
    model = linear()
    with watch(model) as watched:
        for number in range(20):
            loss(model, number).backward()
        sgd(model).step()
        assert (watched.steps, watched.notes) == (1, {})
