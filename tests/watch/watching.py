"""Set-up that the tests of watch share: data, optimizers, norms, small models."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

T, B, D, H = 6, 4, 3, 5
"""Time steps, sequences, inputs and hidden units."""


def data(seed=1, steps=T, width=D, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(steps, B, width, generator=generator, dtype=dtype)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def step(model, loss):
    """One step of training, which leaves the weights where they are."""
    loss.backward()
    sgd(model, 0.0).step()


def near(value, rel=1e-5):
    return pytest.approx(value, rel=rel, abs=1e-9)


def norm(parameters):
    """The norm of all gradients together."""
    grads = [p.grad for p in parameters if p.grad is not None]
    return torch.sqrt(sum(g.pow(2).sum() for g in grads)).item()


def means(hidden):
    """The curve of hidden states that have kept their gradients."""
    return [h.grad.norm(dim=1).mean().item() for h in hidden]


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
