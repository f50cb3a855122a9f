"""Set-up that the tests of watch share: data, optimizers, norms, small models."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.func import functional_call  # noqa: E402

from unrolled.watch import watch  # noqa: E402

T, B, D, H = 6, 4, 3, 5
"""Time steps, sequences, inputs and hidden units."""


def data(seed=1, steps=T, width=D, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(steps, B, width, generator=generator, dtype=dtype)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def step(model, loss, lr=0.0):
    """One step of training, which leaves the weights where they are if the rate is 0."""
    loss.backward()
    sgd(model, lr).step()


def near(value, rel=1e-5):
    return pytest.approx(value, rel=rel, abs=1e-9)


def norm(parameters):
    """The norm of all gradients together."""
    grads = [p.grad for p in parameters if p.grad is not None]
    return torch.sqrt(sum(g.pow(2).sum() for g in grads)).item()


def means(hidden):
    """The curve of hidden states that have kept their gradients."""
    return [h.grad.norm(dim=1).mean().item() for h in hidden]


CELLS = {"RNN_TANH": nn.RNNCell, "RNN_RELU": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}


def make(kind, **options):
    torch.manual_seed(0)
    return kind(D, H, **options)


class Unrolled:
    """A fused layer as a loop over its cells; keeps every hidden state with its gradient."""

    def __init__(self, layer):
        self.layer, self.hidden = layer, {}

    def cells(self):
        kind = CELLS[self.layer.mode]
        extra = {"nonlinearity": "relu"} if self.layer.mode == "RNN_RELU" else {}
        for n in range(self.layer.num_layers):
            for side in ("", "_reverse")[: 1 + self.layer.bidirectional]:
                weights = {
                    name: getattr(self.layer, f"{name}_l{n}{side}")
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                width = weights["weight_ih"].shape[1]
                yield n, side, kind(width, H, **extra), weights

    def __call__(self, x, state=None):
        ends = []
        sides = {}
        for place, (n, side, cell, weights) in enumerate(self.cells()):
            s = None
            if state is not None:
                parts = state if isinstance(state, tuple) else (state,)
                s = tuple(part[place] for part in parts)
                s = s if len(s) == 2 else s[0]
            outputs = []
            for x_t in reversed(x) if side else x:
                s = functional_call(cell, weights, (x_t, s))
                h = s[0] if isinstance(s, tuple) else s
                h.retain_grad()
                outputs.append(h)
                self.hidden.setdefault((n, side), []).append(h)
            ends.append(s)
            sides[n, side] = torch.stack(outputs[::-1] if side else outputs)
            if side or not self.layer.bidirectional:
                x = torch.cat([y for (m, _), y in sides.items() if m == n], -1)
        last = zip(*ends, strict=True) if isinstance(ends[0], tuple) else [ends]
        last = tuple(torch.stack(part) for part in last)
        return x, last if len(last) == 2 else last[0]

    def norms(self, n=0, side=""):
        """``||dL/dh_t||`` (T, B) of a layer and direction, by time, as records have them."""
        grads = [torch.zeros_like(h) if h.grad is None else h.grad for h in self.hidden[n, side]]
        return torch.stack(grads[::-1] if side else grads).norm(dim=2)

    def curve(self, n=0, side=""):
        return self.norms(n, side).mean(1).tolist()


def squares(Y):
    return Y.pow(2).sum()


def written_out(layer, x, loss_of=squares):
    """A fused layer as a loop over its cells, after the backward pass of a loss of its outputs."""
    truth = Unrolled(layer)
    loss_of(truth(x)[0]).backward()
    layer.zero_grad()
    return truth


def trained_once(model, loss_of, **options):
    """The record and the notes of a watched step, which leaves the weights where they are."""
    with watch(model, **options) as watched:
        step(model, loss_of())
        return watched.last, dict(watched.notes)


def curve_of(record, name="rnn"):
    """The curve of a layer in a record."""
    return record.layers[name].hidden_gradient_mean


class Reader(nn.Module):
    """A fused layer and a linear one on its last output."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = kind(D, H, **options)
        self.out = nn.Linear(H, 1)

    def forward(self, x, state=None):
        return self.out(self.rnn(x, state)[0][-1])


class Own(nn.Module):
    """A cell written by hand."""

    def __init__(self, inputs=D, hidden=H):
        super().__init__()
        torch.manual_seed(0)
        self.x, self.h = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)

    def forward(self, x, h=None):
        h = x.new_zeros(len(x), H) if h is None else h
        return torch.tanh(self.x(x) + self.h(h))


def linear():
    torch.manual_seed(0)
    return nn.Linear(D, 1)


def loss(model, seed=0):
    """The loss of a model of `D` inputs."""
    generator = torch.Generator().manual_seed(seed)
    return model(torch.randn(4, D, generator=generator)).pow(2).sum()
