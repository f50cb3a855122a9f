"""Models and loops that ask much of the hooks; truth from layers unrolled under autograd."""

import copy
import threading

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint
from watching import (
    B,
    D,
    H,
    T,
    Unrolled,
    data,
    make,
    near,
    sgd,
    squares,
    step,
    trained_once,
    written_out,
)

from unrolled.watch import watch

KINDS = (nn.RNN, nn.GRU, nn.LSTM)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["h", "c", "lowest", "outputs"])
def test_a_loss_that_does_not_depend_on_all_that_a_layer_returns(kind, loss):
    if loss == "c" and kind is not nn.LSTM:
        pytest.skip("it has no cell state")
    model, x = make(kind, num_layers=2), data()

    def loss_of(Y, last):
        h, c = last if isinstance(last, tuple) else (last, None)
        return {"h": h, "c": c, "lowest": h[0], "outputs": Y}[loss].pow(2).sum()

    truth = Unrolled(model)
    loss_of(*truth(x)).backward()
    model.zero_grad()
    record, notes = trained_once(model, lambda: loss_of(*model(x)))
    assert notes == {}
    for n in range(2):
        found = record.layers[f"{kind.__name__.lower()}.{n}"]
        assert found.hidden_gradient_mean == near(truth.curve(n))


@pytest.mark.parametrize("kind", KINDS)
def test_means_of_packed_sequences_are_over_what_still_runs(kind):
    lengths = [T, 4, 4, 2]
    layer, x = make(kind, bidirectional=True).double(), data(dtype=torch.float64)
    truth = [written_out(layer, x[:n, b : b + 1]) for b, n in enumerate(lengths)]
    packed = pack_padded_sequence(x, lengths)
    record, _ = trained_once(layer, lambda: squares(layer(packed)[0].data))
    layers, name = record.layers, kind.__name__.lower()
    for side, found in (("", layers[name]), ("_reverse", layers[f"{name}.backward"])):
        order = -1 if side else 1  # a direction that reads backwards begins with all sequences
        alone = [unrolled.norms(0, side)[:, 0].tolist()[::order] for unrolled in truth]
        running = [[norms[t] for norms in alone if t < len(norms)] for t in range(T)][::order]
        means = [sum(norms) / len(norms) for norms in running]
        assert found.hidden_gradient_mean == near(means, 1e-10)
        assert found.hidden_gradient_max == near(list(map(max, running)), 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_with_attention_called_word_by_word(kind):
    class Translator(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.encoder, self.decoder = kind(D, H), kind(D + H, H)

        def forward(self, x, y, encoder, decoder):
            E, state = encoder(x)
            context, outputs = torch.zeros(1, B, H), []
            for y_t in y:
                output, state = decoder(torch.cat([y_t[None], context], -1), state)
                scores = torch.einsum("tbh,bh->bt", E, output[0]).softmax(1)
                context = torch.einsum("bt,tbh->bh", scores, E)[None]
                outputs.append(context + output)
            return torch.cat(outputs)

    model = Translator()
    encoder, decoder = Unrolled(model.encoder), Unrolled(model.decoder)
    model(data(1), data(2, steps=4), encoder, decoder).pow(2).sum().backward()
    model.zero_grad()
    record, _ = trained_once(
        model, lambda: squares(model(data(1), data(2, steps=4), model.encoder, model.decoder))
    )
    assert set(record.layers) == {"encoder", "decoder"}
    assert record.layers["encoder"].hidden_gradient_mean == near(encoder.curve())
    assert record.layers["decoder"].hidden_gradient_mean == near(decoder.curve())


def test_what_a_hook_of_one_s_own_makes_of_the_gradient_counts():
    model = make(nn.GRU)

    def loss_of(Y):
        Y.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
        return squares(Y)

    truth = written_out(model, data(), loss_of)
    record, _ = trained_once(model, lambda: loss_of(model(data())[0]))
    assert record.layers["gru"].hidden_gradient_mean == near(truth.curve())


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])  # PyTorch itself forbids it for the LSTM
def test_a_layer_whose_outputs_were_written_to_is_not_traced(kind):
    model = make(kind)
    with watch(model) as watched:
        Y, _ = model(data())
        Y[3:] = 0
        step(model, Y.pow(2).sum())
        assert "output" in watched.notes[kind.__name__.lower()]
        assert watched.last.layers == {}


def test_more_sequences_than_are_shown_say_so():
    model = make(nn.GRU)
    with watch(model) as watched:
        step(model, sum(model(data(seed))[1].sum() for seed in range(4)))
        assert watched.notes == {}
        step(model, sum(model(data(seed))[1].sum() for seed in range(6)))
        assert set(watched.last.layers) == {"gru", "gru#2", "gru#3", "gru#4"}
        assert "first 4" in watched.notes["gru"]


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell])
def test_checkpoints(kind, reentrant):
    model = make(kind)

    def piece(x, h):
        if kind is nn.GRU:
            return model(x, h)[1]
        for x_t in x:
            h = model(x_t, h)
        return h

    def loss_of(size):
        h = torch.zeros((1, B, H) if kind is nn.GRU else (B, H)).requires_grad_()
        for begin in range(0, T, size):
            h = checkpoint(piece, data()[begin : begin + size], h, use_reentrant=reentrant)
        return h.pow(2).sum()

    found = {}
    with watch(model) as watched:
        step(model, piece(data(), None).pow(2).sum())
        ((name, whole),) = watched.last.layers.items()
        for size in (T, 2):
            model.zero_grad()
            step(model, loss_of(size))
            found[size] = watched.last.layers[name].hidden_gradient_mean
        notes = dict(watched.notes)
    assert found[T] == near(whole.hidden_gradient_mean)
    if reentrant:  # each piece has a backward pass of its own, the last piece first
        assert found[2] == near(whole.hidden_gradient_mean[:2])
        assert "use_reentrant=False" in notes[name]
    else:
        assert found[2] == near(whole.hidden_gradient_mean)
        assert notes == {}


def test_inside_torch_func():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.out = make(nn.RNNCell), nn.Linear(H, 1)

        def forward(self, x):
            h = x.new_zeros(1, H)
            for x_t in x:
                h = self.cell(x_t[None], h)
            return self.out(h)

    model = Reader()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    of_one = grad(lambda weights, x: functional_call(model, weights, (x,)).pow(2).sum())
    before = vmap(of_one, (None, 1))(weights, data())
    with watch(model) as watched:
        after = vmap(of_one, (None, 1))(weights, data())
        assert "torch.func" in watched.notes
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_loop_that_never_makes_a_step_is_told_why():
    model = make(nn.GRU)
    with watch(model) as watched:
        for _ in range(100):
            model(data(steps=1))[0].sum().backward()
        assert "no step" in watched.notes["steps"]
        sgd(model).step()
        assert watched.notes == {}
    weights = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
    with watch(model) as watched:
        for _ in range(100):
            functional_call(model, weights, (data(steps=1),))[0].sum().backward()
        assert "no step" in watched.notes["steps"]


def step_while_gradients_come(model, clear=True):
    """Each parameter has an optimizer of its own, which steps as soon as its gradient is there."""
    for parameter in model.parameters():
        own = torch.optim.SGD([parameter], lr=0.1)

        def update(parameter, own=own):
            own.step()
            if clear:
                own.zero_grad()

        parameter.register_post_accumulate_grad_hook(update)


def test_optimizers_that_step_while_gradients_come():
    model = nn.Sequential(make(nn.RNNCell), nn.Linear(H, 1))
    truth = copy.deepcopy(model)
    truth(data()[0]).sum().backward()
    with watch(model) as watched:
        step_while_gradients_come(model)
        model(data()[0]).sum().backward()
        record = watched.last
        assert watched.steps == 1
    norms = {n: p.grad.norm().item() for n, p in truth.named_parameters()}
    assert {n: p.gradient_norm for n, p in record.parameters.items()} == near(norms)
    layer = make(nn.RNN)
    with watch(layer) as watched:
        step_while_gradients_come(layer, clear=False)
        layer(data())[0].sum().backward()
        assert "weights" in watched.notes["rnn"]  # they have moved already
        assert watched.last.layers == {}


def test_a_layer_that_came_later_is_looked_at_too():
    model = nn.Sequential(nn.Linear(D, D))
    with watch(model) as watched:
        step(model, model(data()).sum())
        model[0] = make(nn.GRU)
        truth = written_out(model[0], data(), torch.sum)
        step(model, model(data())[0].sum())  # its first step only makes it known
        model.zero_grad()
        step(model, model(data())[0].sum())
        assert watched.last.layers["0"].hidden_gradient_mean == near(truth.curve())
        assert watched.last.parameters["0.weight_hh_l0"].gradient_norm > 0


def test_complex_weights_have_norms():
    model = nn.ModuleDict({"wave": nn.Linear(D, D, dtype=torch.cfloat), "rnn": make(nn.GRU)})
    optimizer = sgd(model)
    with watch(model) as watched:
        model["rnn"](model["wave"](data() + 0j).abs())[0].sum().backward()
        whole = torch.linalg.vector_norm(model["wave"].weight.grad).item()
        optimizer.step()
        record = watched.last
    assert record.parameters["wave.weight"].gradient_norm == near(whole)
    assert record.layers["rnn"].horizon_steps == T - 1


def test_tensors_without_numbers_are_let_through():
    model = nn.GRU(D, H, device="meta")
    with watch(model) as watched:
        for _ in range(3):
            model(torch.ones(T, B, D, device="meta"))[0].sum().backward()
        assert watched.notes["gru"].startswith("not traced")


def test_masks_are_drawn_again_without_touching_the_generator_of_all(monkeypatch):
    model = make(nn.GRU, num_layers=2, dropout=0.5)
    touched = []
    monkeypatch.setattr(torch, "set_rng_state", touched.append)
    with watch(model) as watched:
        step(model, model(data())[0].sum())
        assert watched.notes == {}
    assert touched == []


def test_models_in_several_threads():
    def train(found):
        model = nn.GRU(D, H)
        with watch(model) as watched:
            for seed in range(10):
                model.zero_grad()
                step(model, model(data(seed))[0].sum())
            found.append((watched.steps, list(watched.last.layers), watched.notes))

    found = []
    threads = [threading.Thread(target=train, args=(found,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(10, ["gru"], {})] * 3


def test_a_sink_may_close_the_watch():
    model = make(nn.GRU)
    handles = []
    handles.append(watch(model, sink=lambda record: handles[0].close()))
    for _ in range(3):
        step(model, model(data())[0].sum())
    assert len(handles[0].records) == 1
