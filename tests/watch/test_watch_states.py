"""Which output of a module written by hand is its state, where several are handed on."""

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import B, D, H, T, data, means, near, step

from unrolled.watch import watch


class Feeding(nn.Module):
    """A decoder written by hand that is given its last word; keeps its hidden states.

    Args:
        order: of the word and the state, in and out.
        read: what the word is made of: the state, as it is or by weights, or the last state.
    """

    def __init__(self, order, read):
        super().__init__()
        torch.manual_seed(0)
        self.order, self.read, self.hidden = order, read, []
        self.x, self.h, self.out = nn.Linear(H, H), nn.Linear(H, H), nn.Linear(H, H)

    def forward(self, *given):
        y, h = (given[self.order.index(name)] for name in "yh")
        read = h
        h = torch.tanh(self.x(y) + self.h(h))
        y = self.out(read) if self.read == "last" else self.out(h) if self.read == "out" else 2 * h
        h.retain_grad()
        self.hidden.append(h)
        return tuple({"y": y, "h": h}[name] for name in self.order)


@pytest.mark.parametrize(
    ("order", "read"),
    [("yh", "out"), ("hy", "out"), ("yh", "as it is"), ("hy", "as it is"), ("yh", "last")],
)
def test_of_a_decoder_that_is_fed_its_words_the_state_is_looked_at(order, read):
    model = Feeding(order, read)
    with watch(model, states={"feeding": f"given.{order.index('h')}"}) as watched:
        for _ in range(2):
            model.hidden.clear()
            given, loss = (torch.zeros(B, H), torch.zeros(B, H)), 0
            for _ in range(T):
                given = model(*given)
                loss = loss + given[order.index("y")].pow(2).sum()
            step(model, loss)
        found, notes = watched.last.layers, watched.notes
        # which output is the state, the second call has told
        assert len(watched.records[0].layers["feeding"].hidden_gradient_mean) == T - 1
    # the last state is read by nobody, where words are made of the one before
    if read == "last":
        model.hidden[-1].grad = torch.zeros(B, H)
    assert found["feeding"].hidden_gradient_mean == near(means(model.hidden))
    assert notes == {"feeding": "its first time step is missing in the first record"}


class OwnLSTM(nn.Module):
    """Keeps its hidden states; ``order`` is that of its two states, in and out."""

    def __init__(self, order):
        super().__init__()
        torch.manual_seed(0)
        self.order, self.hidden = order, []
        self.gates = nn.Linear(D + H, 4 * H)

    def forward(self, x, states):
        h, c = (states[self.order.index(name)] for name in "hc")
        i, f, g, o = self.gates(torch.cat([x, h], -1)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        h.retain_grad()
        self.hidden.append(h)
        return tuple({"h": h, "c": c}[name] for name in self.order)


@pytest.mark.parametrize("order", ["hc", "ch"])
def test_of_an_lstm_cell_of_one_s_own_the_hidden_state_is_looked_at(order):
    model = OwnLSTM(order)
    with watch(model, states={"ownlstm": f"states.{order.index('h')}"}) as watched:
        for _ in range(2):
            model.hidden.clear()
            states = (torch.zeros(B, H), torch.zeros(B, H))
            for x in data():
                states = model(x, states)
            step(model, states[0].pow(2).sum() + states[1].sin().sum())
        found = watched.last.layers
    assert found["ownlstm"].hidden_gradient_mean == near(means(model.hidden))


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("kind", [Feeding, OwnLSTM])
def test_of_a_state_that_nobody_has_named_a_note_says_how_to(kind, detached):
    model = Feeding("yh", "out") if kind is Feeding else OwnLSTM("hc")
    with watch(model) as watched:
        states = (torch.zeros(B, H), torch.zeros(B, H))
        for x in data():
            states = tuple(h.detach() for h in states) if detached else states
            states = model(*states) if kind is Feeding else model(x, states)
        step(model, states[0].sum() + states[1].sum())
        assert watched.last.layers == {}
        # a word that was detached is let go, its state is kept by the model
        argument = f"given.{int(detached)}" if kind is Feeding else "states.0"
        name = kind.__name__.lower()
        assert f"watch(model, states={{'{name}': '{argument}'}})" in watched.notes[name]
        assert [f.name for f in watched.diagnose() if name in f.text] == ["not seen"]


def test_a_module_that_is_only_called_often_gets_no_note():
    model = nn.ModuleDict({"own": Tanh(), "rnn": nn.GRU(D, H), "cell": nn.GRUCell(D, H)})
    with watch(model) as watched:
        h = None
        for x in data():
            h = model["cell"](model["own"](x), h)
        step(model, h.sum() + model["rnn"](data())[0].sum())
        assert watched.notes == {}


def test_a_path_that_leads_to_several_tensors_is_not_guessed_about():
    model = OwnLSTM("hc")
    with watch(model, states={"ownlstm": "states"}) as watched:
        states = (torch.zeros(B, H), torch.zeros(B, H))
        for x in data():
            states = model(x, states)
        step(model, states[0].sum())
        assert watched.last.layers == {}
        assert "'states.0'" in watched.notes["ownlstm"]


class Tanh(nn.Module):
    def forward(self, x):
        return torch.tanh(x)


class Named(nn.Module):
    """Takes its state by name in a dict, and returns more than its state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.x, self.h, self.hidden = nn.Linear(D, H), nn.Linear(H, H), []

    def forward(self, x, *, memory):
        h = torch.tanh(self.x(x) + self.h(memory["h"]) + memory["trace"])
        h.retain_grad()
        self.hidden.append(h)
        return {"h": h, "trace": 0.5 * memory["trace"] + h}


def test_a_state_may_be_told_by_a_path():
    model = nn.ModuleDict({"cell": Named()})
    with watch(model, states={"cell": "memory.h"}) as watched:
        for _ in range(2):
            model["cell"].hidden.clear()
            memory = {"h": torch.zeros(B, H), "trace": torch.zeros(B, H)}
            for x in data():
                memory = model["cell"](x, memory=memory)
            step(model, memory["h"].sum() + memory["trace"].sum())
        found = watched.last.layers
    assert found["cell"].hidden_gradient_mean == near(means(model["cell"].hidden))
