"""What is replayed gives what the function itself would give."""

import weakref
from collections import OrderedDict
from contextlib import nullcontext
from functools import partial

import pytest

from gpu import DEVICE, Recorder, torch
from unrolled import torch as unrolled
from unrolled.kernels.listed import torch as lists
from unrolled.telemetry.recorder import Telemetry
from unrolled.torch import replaying
from unrolled.torch.replaying import MOST, SIGHTINGS, Replayed
from unrolled.training.records import Listener
from unrolled.training.truncation import Truncation

TEXT = "the time traveller for so it will be convenient to speak of him " * 20


def tensor(*values):
    return torch.tensor(values, device=DEVICE)


def scaled(given, weight, power=1):
    return {"product": given["x"] * weight**power, "nothing": None}


def test_the_moving_is_copied_and_the_staying_is_read_where_it_is():
    recorder, weight = Recorder(), tensor(2.0)
    replayed = Replayed(scaled, copied=(0,), record=recorder)
    for i in range(2 * SIGHTINGS):
        weight.fill_(i)
        found = replayed({"x": tensor(1.0 + i)}, weight)
        assert found["product"].item() == (1 + i) * i
        assert found["nothing"] is None
        assert recorder.count == (i + 1 >= SIGHTINGS)
    replayed({"x": tensor(0.5)}, weight)
    assert found["product"].item() == 0.5 * weight.item()  # overwritten, as it says


def test_every_kind_of_call_is_a_recording():
    recorder, weight = Recorder(), tensor(2.0)
    replayed = Replayed(scaled, copied=(0,), record=recorder)
    for x, w, power in (
        (tensor(3.0), weight, 1),
        (tensor(3.0, 4.0), weight, 1),  # another shape
        (tensor(3.0), tensor(5.0), 1),  # another place
        (tensor(3.0), weight, 2),  # another number of Python's
    ):
        before = recorder.count
        for _ in range(SIGHTINGS + 1):
            assert torch.equal(replayed({"x": x}, w, power)["product"], x * w**power)
        assert recorder.count == before + 1


def test_no_more_than_so_many_are_recorded():
    recorder = Recorder()
    replayed = Replayed(lambda x: x + 1, copied=(0,), record=recorder)
    for size in range(1, MOST + 3):
        for _ in range(SIGHTINGS):
            assert replayed(torch.zeros(size, device=DEVICE)).sum().item() == size
    assert recorder.count == MOST


def test_sparse_tensors_are_never_recorded():
    recorder = Recorder()
    replayed = Replayed(lambda x: x.to_dense() * 2, record=recorder)
    sparse = torch.eye(2, device=DEVICE).to_sparse()
    for _ in range(SIGHTINGS + 1):
        assert torch.equal(replayed(sparse), 2 * torch.eye(2, device=DEVICE))
    giving = Replayed(torch.Tensor.to_sparse, copied=(0,), record=recorder)
    for i in range(SIGHTINGS + 1):
        ids = torch.arange(4, device=DEVICE) < i  # another number of numbers every time
        assert torch.equal(giving(ids.float()).to_dense(), ids.float())
    assert recorder.count == 0


def test_what_cannot_be_recorded_runs_as_it_is_written():
    def broken(compute):
        raise RuntimeError("operation not permitted\nand so on")

    replayed = Replayed(lambda x: x + 1, copied=(0,), record=broken)
    x = tensor(1.0)
    for _ in range(SIGHTINGS - 1):
        replayed(x)
    with pytest.warns(UserWarning, match=r"cannot be recorded: operation not permitted$"):
        assert replayed(x).item() == 2
    assert replayed(x).item() == 2  # and no second warning


def test_no_graph_is_alive_at_the_next_run():
    weight, graphs = tensor(2.0).requires_grad_(), []

    class Times(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            assert [graph() for graph in graphs] == [None] * len(graphs)
            graphs.append(weakref.ref(ctx))
            return x * w

        @staticmethod
        def backward(ctx, d):
            return None, d

    def warmed_up(compute):
        compute()
        return compute(), lambda: None

    replayed = Replayed(Times.apply, copied=(0,), record=warmed_up)
    for _ in range(SIGHTINGS + 1):
        found = replayed(tensor(3.0), weight)
        assert (found.item(), found.requires_grad) == (6, False)
    assert len(graphs) == SIGHTINGS + 1
    replayed.function(tensor(3.0), weight)


class Ear(Listener):
    """Keeps numbers, and looks at the gradients where readers look for them."""

    def __init__(self):
        self.found = []

    def on_gradients(self, trainer, gradients):
        for name, parameter in trainer.parameters.items():
            assert torch.equal(parameter.grad, gradients[name])

    def on_step(self, trainer, step):
        self.found.append((step.loss, step.gradient_norm, step.clipped_norm))


def own_functions(V):
    return unrolled.LanguageModel(V, 8, device=DEVICE)


def own_layer(V):
    torch.manual_seed(0)
    return unrolled.RNNModel(torch.nn.GRU(V, 8), V)


@pytest.mark.parametrize("make", [own_functions, own_layer])
def test_a_replayed_training_is_the_training(make, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(replaying, "cuda_graph", lambda compute, warm_up: recorder(compute))
    results = []
    for replay in (False, True):
        assert recorder.count == 0
        data = unrolled.TextData(TEXT, batch_size=4, num_steps=5, seed=0)
        ear = Ear()
        trainer = unrolled.Trainer(3, 1, 0.1, [ear], replay=replay)
        trainer.gpus = [DEVICE]
        torch.manual_seed(0)
        model = make(len(data.vocab)).to(DEVICE)
        trainer.fit(model, data)
        results.append((ear.found, [p.detach().cpu() for p in model.parameters()]))
    # with a state and, where an epoch begins, without; then clipping and joining
    assert recorder.count >= 3
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
    assert len(results[0][0]) == 3 * trainer.num_train_batches > 30


def test_without_being_told_nothing_is_replayed(monkeypatch):
    monkeypatch.setattr(replaying, "cuda_graph", None)
    data = unrolled.TextData(TEXT, batch_size=4, num_steps=5, seed=0)
    trainer = unrolled.Trainer(1)
    trainer.gpus = [DEVICE]
    trainer.fit(own_functions(len(data.vocab)), data)


def scratch(cell, engine, layers, V):
    return unrolled.LanguageModel(V, 9, cell, layers, seed=0, engine=engine)


def framework_layer(layer, V, **settings):
    torch.manual_seed(1)
    return unrolled.RNNModel(layer(V, 9, **settings), V)


MODELS = {
    "rnn": partial(scratch, "rnn", "auto", 1),
    "lstm": partial(scratch, "lstm", "auto", 2),
    "gru, formula": partial(scratch, "gru", "reference", 1),
    "nn.RNN": partial(framework_layer, torch.nn.RNN),
    "nn.LSTM, dropout": partial(framework_layer, torch.nn.LSTM, num_layers=2, dropout=0.3),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("truncation", [Truncation(), Truncation("drawn", back_steps=4)])
def test_a_training_on_the_cpu_is_the_same_to_the_bit(name, every, truncation):
    results = []
    for replay in (False, True):
        data = unrolled.TextData(TEXT, batch_size=4, num_steps=9, seed=0)
        records = []
        telemetry = Telemetry(every, [lambda record, to=records: to.append(record.as_dict())])
        torch.manual_seed(0)
        trainer = unrolled.Trainer(2, 0, 0.5, [telemetry], truncation=truncation, replay=replay)
        model = MODELS[name](len(data.vocab))
        trainer.fit(model, data)
        results.append((records, [p.tolist() for p in model.parameters()]))
    assert results[0] == results[1]
    both = (trainer.differentiate, trainer.tracer.differentiate)
    # while a framework's layer is traced its lines run
    assert any(replayed._recordings for replayed in both) or (every, name[:3]) == (1, "nn.")
    assert len(records) > 10


def test_containers_of_one_call_are_not_those_of_the_next():
    def found(x):
        return OrderedDict(double=2 * x, both=(x + 1, [x - 1]), rest={"none": None})

    replayed = Replayed(found, copied=(0,), record=lists.listed)
    for i in range(SIGHTINGS + 3):
        x = torch.tensor([float(i)])
        new = replayed(x)
        assert new == found(x)
        new.clear()


def test_what_needs_much_memory_runs_as_it_is_written_without_a_word(monkeypatch):
    monkeypatch.setattr(lists, "MOST_BYTES", 8)
    runs = []

    def found(x):
        runs.append(1)
        return x.repeat(9)

    replayed = Replayed(found, copied=(0,), record=lists.listed)
    for i in range(SIGHTINGS + 2):
        assert replayed(torch.tensor([float(i)])).sum() == 9 * i
    assert len(runs) == SIGHTINGS + 2  # never twice for one call


def test_what_is_found_out_late_runs_as_it_is_written():
    total = [0]

    def found(x):
        total[0] += 1
        return {"product": x * total[0], "many": [(x,)]}

    replayed = Replayed(found, copied=(0,), record=lists.listed)
    for i in range(SIGHTINGS):
        assert replayed(torch.tensor([2.0]))["product"] == 2 * (i + 1)
    with pytest.warns(UserWarning, match="cannot be recorded: its operations alone give other"):
        assert replayed(torch.tensor([2.0])) == {"product": 2 * 4, "many": [(2,)]}
    assert replayed(torch.tensor([2.0]))["product"] == 2 * 5
    assert total == [5]  # no line has run twice


def test_what_is_found_out_early_runs_as_it_is_written():
    total = [0]

    def found(x):
        total[0] += 1
        return [x[:k].sum() for k in (x * total[0]).tolist()]

    replayed = Replayed(found, copied=(0,), record=lists.listed)
    for i in range(SIGHTINGS + 2):
        with (
            pytest.warns(UserWarning, match="tolist looks") if i == SIGHTINGS - 1 else nullcontext()
        ):
            replayed(torch.tensor([1]))
    assert total == [SIGHTINGS + 2]


def test_another_number_of_threads_is_another_recording():
    replayed = Replayed(lambda x: 2 * x, copied=(0,), record=lists.listed)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for _ in range(SIGHTINGS):
                replayed(torch.ones(1))
            assert len(replayed._recordings) == threads
    finally:
        torch.set_num_threads(before)


class Changing(Listener):
    """Changes something about a model after every epoch."""

    def __init__(self, change):
        self.change = change

    def on_epoch(self, trainer, record):
        layer = trainer.model.rnn
        if self.change == "frozen":
            layer.weight_hh_l0.requires_grad_(record.epoch % 2 == 0)
        if self.change == "dropout":
            layer.dropout = 0.1 * record.epoch


class Late(torch.optim.Optimizer):
    """Steps with the gradient of the step before, as it was handed over."""

    def __init__(self, params):
        super().__init__(params, {})
        self.kept = {}

    def step(self):
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                if p in self.kept:
                    p -= 0.01 * self.kept[p]
                self.kept[p] = p.grad


@pytest.mark.parametrize("change", ["frozen", "dropout", "late"])
def test_what_changes_in_between_is_trained_as_it_is_then(change):
    results = []
    for replay in (False, True):
        torch.manual_seed(0)
        data = unrolled.TextData(TEXT, batch_size=4, num_steps=9, seed=0)
        model = MODELS["nn.LSTM, dropout"](len(data.vocab))
        if change == "late":
            model.configure_optimizers = partial(Late, list(model.parameters()))
        trainer = unrolled.Trainer(4, listeners=[Changing(change)], replay=replay)
        trainer.fit(model, data)
        results.append([p.tolist() for p in model.parameters()])
    assert results[0] == results[1]
    assert trainer.differentiate._recordings


SCALES = [1.0]


class Scaled(unrolled.RNNModel):
    """Decides by a list that changes from step to step."""

    def loss(self, y_hat, y):
        SCALES[0] *= 0.9
        return super().loss(y_hat * SCALES[0], y)


def own_loss(y_hat, y):
    return (y_hat - 1).pow(2).mean() + 0 * y.float().mean()


@pytest.mark.parametrize("where", ["a subclass", "an attribute", "added to a class"])
def test_foreign_code_runs_at_every_step(where, monkeypatch):
    results = []
    for replay in (False, True):
        SCALES[0] = 1.0
        torch.manual_seed(0)
        data = unrolled.TextData(TEXT, batch_size=4, num_steps=9, seed=0)
        V = len(data.vocab)
        kind = Scaled if where == "a subclass" else unrolled.RNNModel
        model = kind(torch.nn.GRU(V, 8), V)
        if where == "an attribute":
            model.loss = own_loss
        if where == "added to a class":
            monkeypatch.setattr(torch.nn.GRU, "extra_repr", lambda self: "mine")
        trainer = unrolled.Trainer(3, replay=replay)
        with (
            pytest.warns(UserWarning, match="not replayed: .* of test_")
            if replay
            else nullcontext()
        ):
            trainer.fit(model, data)
        results.append([p.tolist() for p in model.parameters()])
    assert results[0] == results[1]


def test_another_model_may_be_watched():
    data = unrolled.TextData(TEXT, batch_size=4, num_steps=9, seed=0)
    V = len(data.vocab)
    trainer = unrolled.Trainer(2, replay=True)
    with unrolled.watch(MODELS["nn.RNN"](V)):
        trainer.fit(MODELS["nn.RNN"](V), data)
    assert trainer.differentiate._recordings


def test_gradients_that_are_used_up_as_they_come_are_not_replayed():
    data = unrolled.TextData(TEXT, batch_size=4, num_steps=9, seed=0)
    model, trainer = MODELS["nn.RNN"](len(data.vocab)), unrolled.Trainer(2, replay=True)
    next(model.parameters()).register_post_accumulate_grad_hook(lambda p: None)
    trainer.fit(model, data)
    assert not trainer.differentiate._recordings


def test_a_watched_model_runs_as_it_is_written():
    data = unrolled.TextData(TEXT, batch_size=4, num_steps=9, seed=0)
    model = MODELS["nn.RNN"](len(data.vocab))
    trainer = unrolled.Trainer(3, replay=True)
    with unrolled.watch(model, every=1) as watched:
        trainer.fit(model, data)
    steps = 3 * trainer.num_train_batches
    assert len(watched.records) == steps
    assert all(record.layers for record in watched.records)
    assert not trainer.differentiate._recordings
    trainer.fit(model, data)
    assert trainer.differentiate._recordings
