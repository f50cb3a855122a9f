"""Compiled models of one class, watched and not; truth from the same loop, not compiled."""

import pytest

pytest.importorskip("torch")

import torch
import watching
from torch import nn
from watching import D, H, Reader, data, means, near, norm, squares

from unrolled.watch import watch

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


class Loop(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.cell = nn.LSTMCell(D, H)

    def forward(self, x):
        state, hidden = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            hidden.append(state[0])
        return hidden


def step(model, run):
    model.zero_grad()
    watching.step(model, squares(run(data())[-1]))


def truth(model):
    hidden = model(data())
    for h in hidden:
        h.retain_grad()
    squares(hidden[-1]).backward()
    return means(hidden)


@pytest.fixture(autouse=True)
def forgotten():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Counting:
    """A compiler's backend that counts what it is asked to compile."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return graph.forward


@pytest.mark.parametrize("when", ["whole", "part", "before"])
def test_a_compiled_model_has_the_record_of_the_same_that_is_not(when):
    model, x = Reader(nn.GRU), data()
    compiled, found = torch.compile(model, backend="aot_eager"), []
    if when == "before":
        compiled(x)  # compiled without the hooks
    for run, watched_model in ((model, model), (compiled, model if when == "part" else compiled)):
        model.zero_grad()
        with watch(watched_model) as watched:
            watching.step(model, run(x).pow(2).mean())
            found.append(watched.last)
        assert found[-1].gradient_norm == near(norm(model.parameters()))
    plain, beside = found
    assert list(beside.parameters) == list(plain.parameters)
    curves = [record.layers["rnn"].hidden_gradient_mean for record in found]
    assert curves[1] == near(curves[0])


def test_nothing_that_was_compiled_is_compiled_again():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTMCell(D, H), nn.Linear(H, 1)

        def forward(self, x):
            return [self.out(self.rnn(x[0])[0])]

    model, twin, other, backend = Loop(0), Loop(1), Other(), Counting()
    expected = truth(model)
    pairs = [(each, torch.compile(each, backend=backend)) for each in (model, twin, other)]

    def around(x):
        return model(x)

    pairs.append((model, torch.compile(around, backend=backend)))
    for pair in pairs:
        step(*pair)
    first = backend.count
    for number in range(3):
        with watch(model) as watched:
            for pair in pairs[1:3]:
                step(*pair)
            assert backend.count == first
            for pair in (pairs[0], pairs[3]):
                step(*pair)
                layer = watched.last.layers["cell"]
                assert layer.hidden_gradient_mean == near(expected)
        if number == 0:
            first = backend.count  # what a watch interrupts is compiled once, for all watches
        for pair in pairs:
            step(*pair)
        assert backend.count == first


def test_a_model_that_is_watched_twice_stays_apart_until_both_are_closed():
    model, backend = Loop(0), Counting()
    run = torch.compile(model, backend=backend)
    step(model, run)
    kind = type(model.cell._parameters)
    first, second = watch(model), watch(model)
    first.close()
    step(model, run)
    assert second.last.layers["cell"].hidden_gradient_mean
    second.close()
    assert type(model.cell._parameters) is kind
    count = backend.count
    step(model, run)
    assert backend.count == count


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_another_model_of_the_class_was_compiled_without_a_watch(when, backend):
    other, model = Loop(0), Loop(1)
    expected = truth(model)
    if when == "before":
        step(other, torch.compile(other, backend=backend))
    with watch(model) as watched:
        if when == "while":
            step(other, torch.compile(other, backend=backend))
        run = torch.compile(model, backend=backend)
        for number in (1, 2):
            step(model, run)
            assert watched.steps == number
            layers = watched.last.layers
            assert layers["cell"].hidden_gradient_mean == near(expected)
            step(other, other)
        assert watched.notes == {}


def test_the_compiler_keeps_its_settings():
    model = Loop(0)
    with watch(model):  # loads the compiler
        pass
    before = torch._dynamo.config.get_config_copy()
    watched = watch(model)
    assert torch._dynamo.config.get_config_copy() == before
    step(model, torch.compile(model, backend="eager"))
    watched.close()
    step(model, torch.compile(model, backend="eager"))
    assert torch._dynamo.config.get_config_copy() == before
    assert watched.steps == 1


def test_a_compiled_step_of_an_optimizer_does_not_take_the_watch_in(recwarn):
    torch.manual_seed(0)
    model = nn.Linear(D, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1))
    run = torch.compile(optimizer.step, backend="eager")
    with watch(model) as watched:
        for number in (1, 2, 3):
            optimizer.zero_grad()
            model(torch.ones(2, D)).pow(2).sum().backward()
            before = model.weight.detach().clone()
            run()
            moved = ((model.weight - before).norm() / before.norm()).item()
            assert watched.steps == number
            assert watched.last.parameters["weight"].update_ratio == near(moved)
    assert not [w for w in recwarn if "Dynamo" in str(w.message)]


@pytest.mark.parametrize("compiled", [False, True])
def test_the_trainer_looks_into_a_fused_layer(compiled):
    from unrolled import torch as u
    from unrolled.telemetry.recorder import Telemetry

    data = u.TextData("hello world " * 30, batch_size=4, num_steps=7, seed=0)
    model = u.RNNModel(nn.GRU(len(data.vocab), 8), len(data.vocab))
    model.rnn = torch.compile(model.rnn, backend="eager") if compiled else model.rnn
    records = []
    u.Trainer(1, listeners=[Telemetry(every=2, sinks=[records.append])]).fit(model, data)
    assert [len(r.layers["rnn"].hidden_gradient_mean) for r in records] == [7] * len(records)
    assert records[-1].layers["rnn"].truncation_points == [0]
    assert not any(module._forward_hooks for module in model.modules())
