"""When a step begins and ends, and what its norms are of: loops as people write them."""

import copy
import math

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import D, linear, loss, near, norm, sgd

from unrolled.watch import watch


def norms(watched):
    return [record.gradient_norm for record in watched.records]


def renormed(model):
    """Weights that their own forward pass writes to."""
    for _ in range(3):
        for first in range(4):
            model(torch.arange(5) + first).sum().backward()
        yield


def moved_for_a_look(model):
    """Weights that are moved between minibatches, and put back."""
    for number in range(6):
        loss(model, number).backward()
        kept = copy.deepcopy(model.state_dict())
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.9)
            loss(model)
        model.load_state_dict(kept)
        if number % 2:
            yield


def back_to_good_weights(bad, to_none):
    """After NaN a minibatch is left out."""

    def loop(model):
        good = copy.deepcopy(model.state_dict())
        for number in range(4):
            (loss(model, number) * (math.nan if number == bad else 1)).backward()
            if number == bad:
                model.zero_grad(to_none)
                model.load_state_dict(good)
            else:
                yield

    return loop


def sharpness_aware(model):
    """Gradients are those of the worst weights nearby."""
    for number in range(3):
        loss(model, number).backward()
        with torch.no_grad():
            away = [0.05 * p.grad / norm(model.parameters()) for p in model.parameters()]
            for p, part in zip(model.parameters(), away, strict=True):
                p.add_(part)
        model.zero_grad()
        loss(model, number).backward()
        with torch.no_grad():
            for p, part in zip(model.parameters(), away, strict=True):
                p.sub_(part)
        yield


def unfreezing(model):
    """Between two passes of one step."""
    model[0].requires_grad_(False)
    loss(model, 1).backward()
    model[0].requires_grad_(True)
    loss(model, 2).backward()
    yield


@pytest.mark.parametrize("to_none", [False, True])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(
    "loop",
    [
        *(renormed, moved_for_a_look, sharpness_aware, unfreezing),
        *(back_to_good_weights(bad, to_none) for bad in (0, 2) for to_none in (False, True)),
    ],
)
def test_only_what_the_optimizer_does_is_a_step(loop, every, to_none):
    torch.manual_seed(0)
    model = {
        renormed: nn.Sequential(nn.Embedding(10, 4, max_norm=1.0), nn.Linear(4, 1)),
        unfreezing: nn.Sequential(nn.Linear(D, D), linear()),
    }.get(loop) or linear()
    optimizer, truth = sgd(model, 0.01), []
    with watch(model, every=every) as watched:
        for _ in loop(model):
            truth.append(norm(model.parameters()))
            optimizer.step()
            optimizer.zero_grad(to_none)
        assert watched.steps == len(truth)
        assert norms(watched) == near(truth[::every])
        assert [record.step for record in watched.records] == [1, 2, 3][: len(truth) : every]


class Failing(torch.optim.SGD):
    fails = True

    def step(self, closure=None):
        if closure is not None:
            with torch.enable_grad():
                closure()
        if self.fails:
            raise RuntimeError("out of memory")
        return super().step()


def test_a_step_by_hand_after_a_step_that_failed():
    model = linear()
    with watch(model) as watched:
        loss(model).backward()
        with pytest.raises(RuntimeError, match="out of memory"):
            Failing(model.parameters(), lr=0.1).step()
        watched.step()
        assert watched.steps == 1


@pytest.mark.parametrize("other", [False, True])
def test_a_closure_that_fails_is_no_step(other):
    model = nn.ModuleList([linear(), linear()])
    optimizer = torch.optim.LBFGS(model[0].parameters(), lr=0.1)

    def closure(part, fails=False):
        model.zero_grad()
        value = loss(part)
        value.backward()
        if fails:
            raise ValueError("not a number")
        return value

    with watch(model) as watched:
        if not other:
            optimizer.step(lambda: closure(model[0]))
        with pytest.raises(ValueError, match="not a number"):
            optimizer.step(lambda: closure(model[0], fails=True))
        for _ in range(3 if other else 2):
            if other:
                closure(model[1])
                sgd(model[1]).step()
            else:
                optimizer.step(lambda: closure(model[0]))
        assert watched.steps == len(watched.records) == 3


@pytest.mark.parametrize("with_closure", [False, True])
@pytest.mark.parametrize("retry", ["the same", "another", "none"])
def test_a_step_that_failed_is_forgotten_and_may_be_tried_again(retry, with_closure):
    model, truth = linear(), []
    with watch(model) as watched:
        for number in range(3):
            optimizer = Failing(model.parameters(), lr=0.01)
            optimizer.zero_grad()

            def backward(number=number):
                loss(model, number).backward()

            optimizer.fails = number == 1
            if not with_closure:
                backward()
            before = model.weight.detach().clone()
            try:
                optimizer.step(backward if with_closure else None)
            except RuntimeError:
                if retry == "none":
                    continue
                optimizer.fails = False
                (optimizer if retry == "the same" else sgd(model, 0.01)).step()
            moved = (model.weight - before).norm() / before.norm()
            truth.append((norm(model.parameters()), moved.item()))
        loss(model)  # what another optimizer has done after the error is known by now
        found = [(r.clipped_norm, r.parameters["weight"].update_ratio) for r in watched.records]
    assert [part for pair in found for part in pair] == near([x for pair in truth for x in pair])


def test_what_an_optimizer_does_after_those_that_it_calls_is_part_of_its_step():
    class Around(torch.optim.Optimizer):
        def __init__(self, parts):
            self.inner = [sgd(part) for part in parts]
            super().__init__([{"params": part.parameters(), "lr": 0.5} for part in parts], {})

        @torch.no_grad()
        def step(self, closure=None):
            for each in (*self.inner, *self.inner):
                each.step()
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(0.9)

    model = nn.ModuleList([linear(), linear()])
    optimizer = Around(model)
    with watch(model) as watched:
        for number in range(2):
            optimizer.zero_grad()
            (loss(model[0], number) + loss(model[1], number)).backward()
            before = model[1].weight.detach().clone()
            optimizer.step()
            moved = ((model[1].weight - before).norm() / before.norm()).item()
            assert watched.steps == number + 1
            assert watched.last.parameters["1.weight"].update_ratio == near(moved)
            assert watched.last.learning_rate == 0.5


def test_the_learning_rate_is_that_of_the_step():
    model = nn.ModuleList([linear(), linear()])
    groups = [{"params": part.parameters(), "lr": 0.1 * n} for n, part in enumerate(model, 1)]
    one, two = sgd(model), torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.ExponentialLR(one, 0.5)
    with watch(model) as watched:
        for optimizer in (one, one, two):
            (loss(model[0]) + loss(model[1])).backward()
            optimizer.step()
            if optimizer is one:
                schedule.step()
        found = [(r.learning_rate, r.learning_rates) for r in watched.records]
    assert found == [(0.1, []), (0.05, []), (0.1, [0.1, 0.2])]


@pytest.mark.parametrize("freezes", [False, True])
def test_of_a_gan_only_gradients_that_are_used_count(freezes):
    torch.manual_seed(0)
    model = nn.ModuleDict({"make": nn.Linear(2, D), "judge": nn.Linear(D, 1)})
    make, judge = model["make"], model["judge"]
    optimizers, truth = {part: sgd(part) for part in (make, judge)}, []
    with watch(model) as watched:
        for step in range(6):
            part = (judge, make)[step % 2]
            judge.requires_grad_(part is judge or not freezes)
            optimizers[part].zero_grad()
            made = make(torch.ones(2, 2))
            judge(made if part is make else made.detach()).pow(2).sum().backward()
            truth.append(norm(part.parameters()))
            nn.utils.clip_grad_norm_(part.parameters(), truth[-1] / 2)
            optimizers[part].step()
        assert norms(watched) == near(truth)
        moved = [{n for n, p in r.parameters.items() if p.update_ratio} for r in watched.records]
        assert moved == [{"judge.weight", "judge.bias"}, {"make.weight", "make.bias"}] * 3
        assert [2 * record.clipped_norm for record in watched.records] == near(truth, 1e-4)
        assert [record.clip_coefficient for record in watched.records] == near([0.5] * 6, 1e-4)


def test_two_optimizers_that_share_a_layer_make_one_step_and_the_update_is_that_of_both():
    model = nn.ModuleDict({"trunk": nn.Linear(D, D), "one": linear(), "two": linear()})
    trunk = model["trunk"]
    one = torch.optim.SGD([*trunk.parameters(), *model["one"].parameters()], lr=0.1)
    two = torch.optim.Adam([*trunk.parameters(), *model["two"].parameters()])
    with watch(model) as watched:
        for number in (1, 2):
            model.zero_grad()
            before = trunk.weight.detach().clone()
            y = trunk(torch.ones(2, D))
            (model["one"](y) + model["two"](y)).sum().backward()
            one.step()
            two.step()
            moved = ((trunk.weight - before).norm() / before.norm()).item()
            assert watched.steps == number
            assert watched.last.parameters["trunk.weight"].update_ratio == near(moved)
            assert all(p.clipped_norm is not None for p in watched.last.parameters.values())


def test_what_an_optimizer_has_left_over_is_known_when_the_next_one_takes_it():
    model = nn.ModuleList([linear(), linear()])
    optimizers = [sgd(part) for part in model]
    with watch(model) as watched:
        (loss(model[0]) + loss(model[1], 1)).backward()
        truth = [norm(part.parameters()) for part in model]
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizers[0].step()
        loss(model[1])
        optimizers[1].step()
        assert norms(watched) == near(truth)


@pytest.mark.parametrize("how", ["new head", "assigned"])
def test_new_parameters_are_in_the_first_record_after_they_came(how):
    model = nn.Sequential(nn.Linear(D, D), linear())
    optimizer = sgd(model)
    with watch(model) as watched:
        for step in range(4):
            if step == 2:
                if how == "new head":
                    model[1] = nn.Linear(D, 2)
                else:
                    weights = {name: p.clone() for name, p in model.state_dict().items()}
                    model.load_state_dict(weights, assign=True)
                optimizer = sgd(model)
            optimizer.zero_grad()
            loss(model, step).backward()
            truth = norm(model.parameters())
            nn.utils.clip_grad_norm_(model.parameters(), truth / 2)
            optimizer.step()
            record = watched.last
            assert record.step == step + 1
            assert record.clipped_norm == near(truth / 2, 1e-4)
            assert record.gradient_norm == (None if step == 2 else near(truth))
            assert ("unfrozen" in watched.notes) == (step >= 2)
