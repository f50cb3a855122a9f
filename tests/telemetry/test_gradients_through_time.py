"""Gradients through time: against finite differences, against automatic differentiation."""

from functools import partial

import numpy as np
import pytest
from kept import Batches

from installed import INSTALLED
from unrolled.frameworks import load
from unrolled.functional.bptt import GATES
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels import recur

T, B, H, V = 5, 3, 4, 6
frameworks = pytest.mark.parametrize("framework", INSTALLED)


IDS = np.random.default_rng(5).integers(0, V, (B, T + 1))
X, Y = IDS[:, :-1], IDS[:, 1:]


def traced(framework, cell):
    """Values of the parameters, and the gradients in the traced layers, as NumPy arrays."""
    library = load(framework)
    backend, data = library.backend, Batches(library.backend, (X, Y))
    (batch,) = data
    model = library.LanguageModel(V, H, cell, sigma=0.5, seed=1)
    trainer = library.Trainer(1)
    trainer.prepare(model, data)
    values = {name: backend.to_numpy(p).copy() for name, p in trainer.parameters.items()}
    plain = trainer.backward(batch, None)
    plain_gradients = {name: backend.to_numpy(g).copy() for name, g in plain[1].items()}
    (loss, _), gradients, found = trainer.backward(batch, None, traced=True)
    assert float(loss) == pytest.approx(float(plain[0][0]), rel=1e-6)
    gradients = {name: backend.to_numpy(g).copy() for name, g in gradients.items()}
    assert list(gradients) == list(plain_gradients)
    for name, g in plain_gradients.items():
        np.testing.assert_allclose(gradients[name], g, rtol=1e-5, atol=1e-7, err_msg=name)
    return values, {
        name: (backend.to_numpy(layer.hidden), backend.to_numpy(layer.recurrent))
        for name, layer in found.layers.items()
    }


# The truth of one case: central differences in float64, of formulas written out here


def lstm_loss(p, X, Y, add_hidden, add_recurrent):
    """Mean cross-entropy of an LSTM, with something added to every H_t and every product."""
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    h, c, total = np.zeros((B, H)), np.zeros((B, H)), 0.0
    W_h = np.concatenate([p[f"W_h{g}"] for g in "ifoc"], axis=1)
    for t in range(T):
        A = np.concatenate([p[f"W_x{g}"][X[:, t]] + p[f"b_{g}"] for g in "ifoc"], axis=1)
        i, f, o, g = np.split(A + h @ W_h + add_recurrent[t], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c) + add_hidden[t]
        logits = h @ p["W_hq"] + p["b_q"]
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= logits[np.arange(B), Y[:, t]].sum()
    return total / (T * B)


def central_differences(function, shape):
    gradient = np.empty(shape)
    for at in np.ndindex(*shape):
        move = np.zeros(shape)
        move[at] = 1e-5
        gradient[at] = (function(move) - function(-move)) / 2e-5
    return gradient


@frameworks
def test_an_lstms_gradients_through_time_are_finite_differences(framework):
    values, layers = traced(framework, "lstm")
    p = {name: value.astype(np.float64) for name, value in values.items()}
    none, nothing = np.zeros((T, B, H)), np.zeros((T, B, 4 * H))
    hidden, recurrent = layers["layers.0"]
    expected = central_differences(lambda d: lstm_loss(p, X, Y, d, nothing), (T, B, H))
    np.testing.assert_allclose(hidden, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    expected = central_differences(lambda d: lstm_loss(p, X, Y, none, d), (T, B, 4 * H))
    np.testing.assert_allclose(recurrent, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# The truth of the others: PyTorch's own differentiation of the loop, retaining what is inside


def explicit(cell, X, weights, keep):
    """One layer over ``X (T, B, D)`` in plain PyTorch; ``keep`` gets every H_t and product."""
    import torch

    w, G = list(weights), len(GATES[cell.engine])
    W_x, W_h, b = (torch.cat(w[k : 3 * G : 3], -1) for k in range(3))
    h = c = torch.zeros(B, H, dtype=X.dtype)
    outputs = []
    for X_t in X:
        P = h @ W_h
        A = (X_t @ W_x + b).split(H, -1)
        Ps = P.split(H, -1)
        if cell.engine == "gru":
            z, r = torch.sigmoid(A[0] + Ps[0]), torch.sigmoid(A[1] + Ps[1])
            h = z * h + (1 - z) * torch.tanh(A[2] + r * (Ps[2] + w[-1]))
        elif cell.engine == "lstm":
            i, f, o = (torch.sigmoid(A[k] + Ps[k]) for k in range(3))
            c = f * c + i * torch.tanh(A[3] + Ps[3])
            h = o * torch.tanh(c)
        else:
            S = A[0] + Ps[0]
            h = torch.relu(S) if cell.engine == "rnn_relu" else torch.tanh(S)
        h = h.clone()
        for inner in (P, h):
            if inner.requires_grad:
                inner.retain_grad()
        keep.append((P, h))
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("cell", [*CELLS.values(), RELU_RNN], ids=lambda cell: cell.engine)
@pytest.mark.parametrize(("dtype", "both_ways"), [("float32", False), ("float64", True)])
def test_they_are_those_of_automatic_differentiation(cell, both_ways, dtype):
    torch = pytest.importorskip("torch")
    from unrolled.torch import Module, Trainer

    num_layers = 2
    directions = (False, True) if both_ways else (False,)
    rng = np.random.default_rng(3)
    tensor = partial(torch.tensor, dtype=getattr(torch, dtype))

    class Stack(Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleDict()
            for layer in range(num_layers):
                D = 2 if layer == 0 else H * len(directions)
                for reverse in directions:
                    self.layers[f"{layer}{'b' if reverse else 'f'}"] = torch.nn.ParameterList(
                        tensor(rng.normal(0, 0.5, shape)) for shape in cell.shapes(D, H).values()
                    )

        def run(self, X, layer_of):
            for layer in range(num_layers):
                ways = [layer_of(X, layer, reverse) for reverse in directions]
                X = torch.cat(ways, -1)
            return X

        def forward(self, X):
            def by_engine(X, layer, reverse):
                weights = list(self.layers[f"{layer}{'b' if reverse else 'f'}"])
                state = tuple(X.new_zeros(B, H) for _ in range(cell.num_states))
                return recur(self.backend, cell, X, state, weights, "auto", reverse)[0]

            return self.run(X.transpose(0, 1), by_engine)

        def loss(self, Y_hat, Y):
            return ((Y_hat - Y[..., None]) ** 3).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    batch = tensor(rng.normal(size=(B, T, 2))), tensor(rng.normal(size=(T, B)))
    model, trainer = Stack(), Trainer(1)
    trainer.prepare(model, Batches(Module.backend, batch))
    _, _, found = trainer.backward(batch, None, traced=True)
    kept: dict[str, list] = {}

    def by_autograd(X, layer, reverse):
        keep = kept.setdefault(f"layers.{layer}{'.backward' if reverse else ''}", [])
        weights = model.layers[f"{layer}{'b' if reverse else 'f'}"]
        outputs = explicit(cell, X.flip(0) if reverse else X, weights, keep)
        return outputs.flip(0) if reverse else outputs

    model.loss(model.run(batch[0].transpose(0, 1), by_autograd), batch[1]).backward()
    assert list(found.layers) == list(kept)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for name, layer in found.layers.items():
        assert layer.reverse is name.endswith(".backward")
        hidden = torch.stack([h.grad for _, h in kept[name]])
        recurrent = torch.stack([P.grad for P, _ in kept[name]])
        for got, expected in ((layer.hidden, hidden), (layer.recurrent, recurrent)):
            scale = float(expected.abs().max())
            torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=tolerance)
