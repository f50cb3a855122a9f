"""What is replayed gives what the function itself would give."""

import weakref

import pytest

from gpu import DEVICE, Recorder, torch
from unrolled import torch as unrolled
from unrolled.torch import replaying
from unrolled.torch.replaying import MOST, SIGHTINGS, Replayed
from unrolled.training.records import Listener

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
    return unrolled.RNNModelScratch(V, 8, DEVICE)


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
