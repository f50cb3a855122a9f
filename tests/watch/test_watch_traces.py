"""Watching leaves no trace: whatever is saved, printed or sent is that of an unwatched twin."""

import copy
import copyreg
import gc
import io
import pickle
import pickletools
from multiprocessing import reduction

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from watching import D, H, Own, means, near

from unrolled.watch import watch

ROOM = "unrolled.torch.through_time"


class Slim(nn.Linear):
    """Says itself how it is pickled."""

    def __reduce__(self):
        return Slim, (self.in_features, self.out_features), {**vars(self), "note": "mine"}


def shout(module, args, output):
    """A person's own hook."""


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.cell, self.own = nn.GRU(D, H, 2, dropout=0.5), nn.LSTMCell(D, H), Own()
        self.out, self.loss = nn.Sequential(nn.BatchNorm1d(H), Slim(H, 1)), nn.MSELoss()
        self.first = nn.Parameter(torch.zeros(4, H))
        self.rnn.register_forward_hook(shout)
        self.cell.register_forward_pre_hook(lambda module, args: None)
        self.cell._forward_pre_hooks.clear()

    def forward(self, x):
        state, h = None, self.first
        for x_t in x:
            state, h = self.cell(x_t, state), self.own(x_t, h)
        y = self.out(self.rnn(x)[0][-1] + state[0] + h)
        return self.loss(y, torch.ones_like(y))


ANOTHER = Model()
"""Python keeps names once: what is pickled depends on whether another model has them, too."""


def train(model, optimizer, steps=2):
    torch.manual_seed(1)
    x = torch.randn(6, 4, D)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()


def saved(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def attributes(model):
    """All that modules and parameters hold, but for the tensors' numbers."""
    found = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            held = {k: type(v) for k, v in value.items()} if isinstance(value, dict) else value
            found[name, key] = type(value), held if isinstance(value, (dict, int, str)) else None
    for name, p in model.named_parameters():
        hooks = p._backward_hooks, p._post_accumulate_grad_hooks
        found[name] = vars(p), [len(each or ()) for each in hooks]
    return found


def loaded(pickled):
    """What a pickle names, and what comes out of it."""
    names = [arg for op, arg, _ in pickletools.genops(pickled) if op.name == "GLOBAL"]
    return names, b"unrolled" in pickled, attributes(pickle.loads(pickled))


SENT = {
    "pickle": lambda m: loaded(pickle.dumps(m, 2)),
    "torch.save": saved,
    "multiprocessing": lambda m: loaded(bytes(reduction.ForkingPickler.dumps(m))),
    "deepcopy": lambda m: (saved(copy.deepcopy(m)), attributes(copy.deepcopy(m))),
    "copy": lambda m: [
        len(value) for value in vars(copy.copy(m)).values() if hasattr(value, "keys")
    ],
    "state_dict": lambda m: (list(m.state_dict()), saved(m.state_dict())),
    "repr": repr,
    "names": lambda m: [(n, type(part)) for n, part in m.named_modules(remove_duplicate=False)],
    "traced": lambda m: torch.jit.trace(m.out.eval(), torch.ones(4, H)).code,
    "a traced layer": lambda m: torch.jit.trace(m.rnn.eval(), torch.ones(6, 4, D)).code,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("how", SENT)
def test_what_is_saved_printed_or_sent_is_that_of_an_unwatched_twin(how, monkeypatch):
    states = []
    for watched in (False, True):
        monkeypatch.setattr(torch.utils.hooks.RemovableHandle, "next_id", 0)  # of hooks of all
        model = Model()
        optimizer = torch.optim.Adam(model.parameters())
        if watched:
            handles = watch(model), watch(model.cell)
        train(model, optimizer)
        seen = [SENT[how](model), saved(optimizer), saved(optimizer.state_dict())]
        if watched:
            assert handles[0].steps == handles[1].steps == 2
            for handle in handles:
                handle.close()
        states.append([*seen, SENT[how](model), attributes(model), torch.get_rng_state().tolist()])
    for alone, beside in zip(*states, strict=True):
        assert alone == beside


def test_copies_are_made_as_before_when_the_watch_is_closed():
    table = dict(copyreg.dispatch_table)
    model = Model()
    with watch(model), watch(model):
        assert copyreg.dispatch_table != table
    assert copyreg.dispatch_table == table


def test_a_tap_of_a_trained_first_state_is_no_step_and_leaves_no_hooks():
    model = Model()
    before = attributes(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model) as watched:
        h, hidden = watched.tap(model.first, "mine"), []
        for _ in range(4):
            h = watched.tap(torch.tanh(h + model.own.h(h)), "mine")
            h.retain_grad()
            hidden.append(h)
        h.sum().backward()
        optimizer.step()
        found = watched.last.layers["mine"]
        assert found.hidden_gradient_mean == near(means(hidden))
        assert (found.truncation_points, found.horizon_steps) == ([], 3)
    model.zero_grad()
    gc.collect()
    assert attributes(model) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_watched_model_can_be_exported():
    def program(watched):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, 1))
        handle = watch(model) if watched else None
        exported = torch.export.export(model, (torch.ones(4, D),), strict=False)
        if handle is not None:
            handle.close()
        return [(node.op, str(node.target)) for node in exported.graph.nodes]

    assert program(watched=True) == program(watched=False)


def test_an_error_of_ours_is_not_taken_for_a_tensor_that_cannot_be_looked_at(monkeypatch):
    model = nn.GRU(D, H)
    with watch(model) as watched:
        for place in (f"{ROOM}.fused_call.begin", f"{ROOM}.curves.recompute"):
            for error in (KeyError, RuntimeError):

                def broken(*given, error=error):
                    raise error("what")

                with monkeypatch.context() as patch:
                    patch.setattr(place, broken)
                    if error is KeyError:
                        with pytest.raises(KeyError):
                            model(torch.ones(4, 2, D))[0].sum().backward()
                    else:
                        model(torch.ones(4, 2, D))[0].sum().backward()
                        assert watched.notes == {"gru": "not traced: RuntimeError: what"}
                    watched.notes.clear()
