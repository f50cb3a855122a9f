"""Faults of widely copied versions of these programs, each with a test that it stays away."""

import socket
import weakref
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from recorder import Recorder  # noqa: E402

import unrolled.torch as unrolled  # noqa: E402
from unrolled.d2l import torch as d2l  # noqa: E402
from unrolled.nndl import torch as nndl  # noqa: E402
from unrolled.public_names import NNDL  # noqa: E402

TEXT = "a stitch in time saves nine " * 10


def total_norm(model: Any) -> float:
    return torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()


def text_data() -> Any:
    return unrolled.TextData(TEXT, batch_size=2, num_steps=5, seed=0)


def language_model(cell: str = "rnn", **settings: Any) -> Any:
    torch.manual_seed(0)
    return unrolled.LanguageModel(28, 6, cell, **settings)


def regression() -> tuple[Any, Any]:
    data = unrolled.SyntheticRegressionData([2, -3.4], 4.2, num_train=64, num_val=32, seed=0)
    return unrolled.LinearRegressionScratch(2, lr=0.1, seed=0), data


def test_public_names_are_things_and_not_the_modules_that_hold_them() -> None:
    # import Accuracy; Accuracy() calls the module
    public = {name: getattr(d2l, name) for name in d2l.__all__}
    public |= {name: getattr(nndl, name) for name in NNDL}
    modules = {name for name, value in public.items() if isinstance(value, ModuleType)}
    assert modules <= {"backend"}
    classes = [name for name in public if name[0].isupper() and not name.startswith("DATA_")]
    assert all(isinstance(public[name], type) for name in classes)


@pytest.mark.parametrize(("cell", "layers"), [("rnn", 1), ("gru", 1), ("lstm", 2)])
def test_every_weight_is_a_parameter_with_a_gradient_so_trained_saved_moved_and_clipped(
    cell: str, layers: int
) -> None:
    # a plain tensor as embedding matrix is none of that
    model = language_model(cell, num_layers=layers)
    # W, U, b at zero: the state stays zero, and U's first gradient with it
    loss, _ = model.loss_and_state(next(iter(text_data().train_dataloader())), None)
    loss.backward()
    for name, value in model.named_parameters():
        assert value.std() > 0.005 or "b_" in name
        assert value.grad.norm() > 0, name
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    listed = [id(p) for p in model.parameters()]
    assert sorted(map(id, model.weights())) == sorted(listed)
    assert len(weights) == len(model.weights())
    loose = [v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    assert not loose
    unrolled.Trainer(1, gradient_clip_val=0.1).fit(model, text_data())
    for name, value in model.state_dict().items():
        assert not torch.equal(value, weights[name]), name
    assert total_norm(model) <= 0.1 * (1 + 1e-5)
    model.to(torch.float64)
    assert all(param.dtype == torch.float64 for param in model.weights())


class Token:
    """Lives as long as the piece of graph that holds it."""


class Marked(torch.autograd.Function):
    """The identity; its node in the graph holds a `Token`."""

    tokens: list[Any] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.token = Token()
        Marked.tokens.append(weakref.ref(ctx.token))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


@pytest.mark.parametrize("kind", ["regression", "carried state"])
def test_no_graph_outlives_its_step(kind: str) -> None:
    # total_loss += loss keeps the nodes of every step until the epoch ends
    model, data = regression() if kind == "regression" else (language_model(), text_data())
    original, alive = model.loss_and_state, []
    Marked.tokens.clear()

    def loss_and_state(batch: Any, state: Any) -> Any:
        alive.append(sum(ref() is not None for ref in Marked.tokens))
        loss, state = original(batch, state)
        return Marked.apply(loss), state and tuple(map(Marked.apply, state))

    model.loss_and_state = loss_and_state
    unrolled.Trainer(2).fit(model, data)
    assert len(alive) > 3
    assert alive == [0] * len(alive)


def test_carried_states_may_be_views_of_one_buffer() -> None:
    # detach_() on a view is a RuntimeError
    def forward(inputs: Any, state: Any, params: Any) -> Any:
        logits, new = d2l.lstm(inputs, state, params)
        buffer = torch.stack(new)
        return logits, (buffer[0], buffer[1])

    model = d2l.RNNModelScratch(28, 6, None, d2l.get_lstm_params, d2l.init_lstm_state, forward)
    recorder = Recorder()
    unrolled.Trainer(1, listeners=[recorder]).fit(model, text_data())
    assert len(recorder.steps) > 3
    whole = torch.ones(2, 3, requires_grad=True) * 2
    views = unrolled.backend.stop_gradient(tuple(whole.unbind()))
    assert not any(view.requires_grad for view in views)


def test_what_is_recorded_are_plain_numbers() -> None:
    # a metric that adds up tensors that require grad: a warning, and a graph kept alive
    model, data = regression()
    recorder = Recorder()
    unrolled.Trainer(2, listeners=[recorder]).fit(model, data)
    # torch.norm(p.grad).numpy()[0] is an IndexError
    assert recorder.steps[-1].gradient_norm == pytest.approx(total_norm(model), rel=1e-5)
    for record in [*recorder.steps, *recorder.epochs]:
        for name in record.__slots__:
            assert type(getattr(record, name)) in (int, float, type(None)), name
    for points in model.board.points.values():
        assert points
        assert all(type(number) is float for point in points for number in point)


def test_data_come_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # downloading at first use fails offline and behind firewalls
    def refuse(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    loader, vocab = d2l.load_data_time_machine(4, 6, seed=0)
    assert (len(vocab), len(loader)) == (28, 10000 // 4 // 6)
    unrolled.SyntheticRegressionData([2, -3.4], 4.2)
