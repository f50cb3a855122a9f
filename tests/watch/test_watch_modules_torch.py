"""``watch(model)`` and modules as people write them; truth from loops over cells under autograd."""

import warnings

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import (
    B,
    D,
    H,
    Own,
    Reader,
    T,
    data,
    means,
    near,
    sgd,
    squares,
    step,
    trained_once,
    written_out,
)

from unrolled.watch import watch

WORDS = 7
FUSED = (nn.RNN, nn.GRU, nn.LSTM)


def words():
    return torch.arange(T * B).reshape(T, B) % WORDS


class Decoder(nn.Module):
    """A fused layer in a module that its caller calls word by word, with the state."""

    def __init__(self, kind, layers=1):
        super().__init__()
        torch.manual_seed(0)
        self.emb = nn.Embedding(WORDS, D)
        self.rnn = kind(D, H, layers)
        self.out = nn.Linear(H, WORDS)

    def forward(self, ids, state=None):
        o, state = self.rnn(self.emb(ids)[None], state)
        return self.out(o[0]), state


@pytest.mark.parametrize("each", [False, True], ids=["one pass", "a pass at every step"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", FUSED)
def test_a_fused_layer_inside_a_module_called_step_by_step(kind, layers, each):
    decoder, state, losses = Decoder(kind, layers), None, []
    x = decoder.emb(words()).detach()
    truth = written_out(decoder.rnn, x, lambda Y: squares(decoder.out(Y)))
    decoder.zero_grad()
    with watch(nn.ModuleDict({"dec": decoder})) as watched:
        for ids in words():
            y, state = decoder(ids, state)
            losses.append(squares(y))
            if each:
                losses.pop().backward(retain_graph=True)
        if not each:
            sum(losses).backward()
        sgd(decoder).step()
        found, notes = watched.last.layers, watched.notes
    names = ["dec.rnn"] if layers == 1 else ["dec.rnn.0", "dec.rnn.1"]
    assert notes == {}
    assert set(found) == set(names)
    for n, name in enumerate(names):
        assert found[name].hidden_gradient_mean == near(truth.curve(n))


class Wrapped(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.inner = nn.GRUCell(*sizes)

    def forward(self, x, h):
        return self.inner(x, h)


@pytest.mark.parametrize("each", [False, True], ids=["one pass", "a pass at every step"])
@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell, Own, Wrapped])
def test_a_loop_over_a_cell(kind, each):
    model = nn.ModuleDict({"cell": kind(D, H), "out": nn.Linear(H, 1)})
    with watch(model, states={"cell": "h"} if kind is Own else None) as watched:
        for _ in range(2):
            model.zero_grad()
            state, hidden, losses = None, [], []
            for x in data():
                state = model["cell"](x, state)
                hidden.append(state[0] if kind is nn.LSTMCell else state)
                hidden[-1].retain_grad()
                losses.append(squares(model["out"](hidden[-1])))
                if each:
                    losses.pop().backward(retain_graph=True)
            if not each:
                sum(losses).backward()
            sgd(model).step()
        ((name, found),) = watched.last.layers.items()
        assert watched.notes == {}
    norms = torch.stack([h.grad.norm(dim=1) for h in hidden])
    assert name == ("cell.inner" if kind is Wrapped else "cell")
    assert found.hidden_gradient_mean == near(norms.mean(1).tolist())
    assert found.hidden_gradient_max == near(norms.amax(1).tolist())


def test_a_cell_of_one_s_own_in_several_minibatches_has_the_curve_of_the_last():
    model, other = Own(), Own()
    both = nn.ModuleDict({"one": model, "two": other})
    with watch(both, states={"one": "h", "two": "h"}) as watched:
        for seed in range(3):
            h, g, hidden = torch.zeros(B, H), torch.zeros(B, H), ([], [])
            for x in data(seed):
                h, g = model(x, h), other(x, g)
                for each, state in zip(hidden, (h, g), strict=True):
                    state.retain_grad()
                    each.append(state)
            loss = h.pow(2).sum() + g.sin().sum()
            if seed < 2:
                loss.backward()
        step(both, loss)
        found = watched.last.layers
    assert found["one"].hidden_gradient_mean == near(means(hidden[0]))
    assert found["two"].hidden_gradient_mean == near(means(hidden[1]))


class GRU(nn.Module):
    """Its name in small letters is that of its layer; it changes the state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gru = nn.GRUCell(D, H)

    def forward(self, x, h):
        h = torch.tanh(2 * self.gru(x, h))
        h.retain_grad()
        return h


def test_a_model_and_its_layer_of_the_same_name_are_two():
    model, h, hidden = GRU(), torch.zeros(B, H), []
    with watch(model, states={"gru_": "h"}) as watched:
        for x in data():
            h = model(x, h)
            hidden.append(h)
        step(model, h.pow(2).sum())
        found = watched.last.layers
    assert set(found) == {"gru_", "gru", "gru#2", "gru#3", "gru#4"}
    assert found["gru_"].hidden_gradient_mean == near(means(hidden))
    assert all(len(found[name].hidden_gradient_mean) == 1 for name in found if name != "gru_")


class Readers(nn.Module):
    """Two layers of the same name; one is inside what is called like a wrapper's model."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.module = nn.ModuleDict({"rnn": nn.GRU(D, H), "fc": nn.Linear(H, 1)})
        self.rnn, self.fc = nn.GRU(D, H), nn.Linear(H, 1)

    def forward(self, x):
        return self.fc(self.rnn(x)[0]) + self.module["fc"](self.module["rnn"](x)[0])


@pytest.mark.parametrize("wrapped", [False, True])
def test_two_layers_of_a_name_are_both_in_the_record(wrapped):
    model = Readers()
    watched_model = nn.DataParallel(model) if wrapped else model
    record, _ = trained_once(watched_model, lambda: squares(watched_model(data())))
    truth = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert {name: p.gradient_norm for name, p in record.parameters.items()} == near(truth)
    assert set(record.layers) == {"rnn", "module.rnn"}


def test_what_only_looks_like_a_wrapper_keeps_its_names():
    model = nn.ModuleDict({"module": nn.GRU(D, H), "head": nn.Linear(H, 1)})
    record, _ = trained_once(model, lambda: model["head"](model["module"](data())[0]).sum())
    assert set(record.parameters) == {name for name, _ in model.named_parameters()}
    assert set(record.layers) == {"module"}


def scripted(module):
    # PyTorch calls it deprecated in some versions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


class WithScript(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(D, H)
        self.head = scripted(nn.Sequential(nn.Linear(H, H), nn.Linear(H, 2)))

    def forward(self, x):
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("whole", [False, True])
def test_of_what_is_scripted_the_norms_are_recorded_with_a_note(whole):
    model = scripted(nn.Linear(D, 2)) if whole else WithScript()
    with watch(model) as watched:
        for _ in range(2):
            model.zero_grad()
            step(model, model(data()).pow(2).sum())
        record, notes = watched.last, watched.notes
    truth = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert {name: p.gradient_norm for name, p in record.parameters.items()} == near(truth)
    assert set(record.layers) == (set() if whole else {"rnn"})
    ((name, note),) = notes.items()
    assert name == ("recursivescriptmodule" if whole else "head")
    assert "torch.jit" in note


def test_hooks_come_off_where_hooking_fails():
    class Refuses(nn.Linear):
        def register_forward_hook(self, *args, **kwargs):
            raise RuntimeError("no hooks here")

    model = nn.Sequential(nn.Linear(D, H), Refuses(H, 1))
    with pytest.raises(RuntimeError, match="no hooks here"):
        watch(model)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    step(model, model(data()).sum())


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("other", ["trained", "frozen"])
@pytest.mark.parametrize("by_parts", [False, True])
def test_parameters_unfrozen_later_count_from_the_first_step_on(every, other, by_parts):
    model = Reader(nn.GRU)
    model.rnn.requires_grad_(False)
    unseen = by_parts and other == "frozen"  # nothing tells of the first pass
    run = (lambda x: model.out(model.rnn(x)[0])) if by_parts else model
    with watch(model, every=every) as watched:
        for number in range(1, 4):
            if number == 3:
                model.rnn.requires_grad_(True)
                model.out.requires_grad_(other == "trained")
            model.zero_grad()
            run(data(number)).pow(2).sum().backward()
            truth = {
                n: p.grad.norm().item() for n, p in model.named_parameters() if p.requires_grad
            }
            whole = torch.tensor(list(truth.values())).norm().item()
            if not unseen:
                nn.utils.clip_grad_norm_(model.parameters(), whole / 4)
            torch.optim.SGD(model.parameters(), 0.0).step()
            assert watched.steps == number
        record, notes = watched.last, watched.notes
    assert record.step == 3
    assert ("unfrozen" in notes) == unseen
    before = {name: p.gradient_norm for name, p in record.parameters.items()}
    if unseen:  # whether it was clipped, neither
        assert {name: p.clipped_norm for name, p in record.parameters.items()} == near(truth)
        assert set(before.values()) == {record.gradient_norm} == {None}
    else:
        assert before == near(truth)
        assert record.gradient_norm == near(whole)
    assert record.layers["rnn"].horizon_steps == T - 1
