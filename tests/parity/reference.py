"""The reference: models, gradients and training steps written out by hand, in float64.

NumPy only. No automatic differentiation and nothing of the library: what is here was
derived on paper, and ``test_reference.py`` holds it against finite differences. Every
framework must arrive at the same numbers (``test_golden.py``).

How to read it: ``dW`` is the derivative of the loss with respect to ``W``, of the same
shape. Backpropagation needs four rules only:

- ``Y = X W``      gives ``dX = dY W^T`` and ``dW = X^T dY``;
- ``Y = X + b``    gives ``db`` = the sum of the rows of ``dY``;
- ``Y = A * B``    (elementwise) gives ``dA = dY * B`` and ``dB = dY * A``;
- ``y = tanh(a)``  gives ``da = dy (1 - y^2)``; ``y = sigmoid(a)`` gives ``da = dy y (1 - y)``;

and what is used at several places collects the sum of what comes back from each: a
weight from every time step, a hidden state from the output and from the step after.

Shape letters: T time steps, B batch size, D inputs, H hidden units, V vocabulary, N rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Arrays = dict[str, Array]
State = tuple[Array, ...]


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def zeros(p: Arrays) -> Arrays:
    """Where the gradients of these parameters are added up."""
    return {name: np.zeros_like(value) for name, value in p.items()}


# Linear regression


def linear_regression(p: Arrays, X: Array, y: Array) -> tuple[float, Arrays]:
    """Loss and gradients of ``1/N sum_n (x_n w + b - y_n)^2 / 2``.

    X (N, D), y (N, 1), w (D, 1), b (1,).
    """
    N = len(X)
    error = X @ p["w"] + p["b"] - y  # (N, 1)
    loss = (error**2).sum() / (2 * N)
    return loss, {"w": X.T @ error / N, "b": error.sum(axis=0) / N}


# The cells: forward keeps on a tape what backward needs


def rnn_forward(X: Array, state: State, p: Arrays) -> tuple[Array, State, list[Any]]:
    """H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h), for X (T, B, D)."""
    (H,) = state  # (B, H)
    outputs, tape = [], []
    for X_t in X:  # (B, D)
        H_before = H
        H = np.tanh(X_t @ p["W_xh"] + H_before @ p["W_hh"] + p["b_h"])
        outputs.append(H)
        tape.append((X_t, H_before, H))
    return np.stack(outputs), (H,), tape


def rnn_backward(d_outputs: Array, tape: list[Any], p: Arrays) -> tuple[Array, Arrays]:
    """From dH_t (T, B, H), what comes from above: dX (T, B, D) and the weights' gradients."""
    g, dX = zeros(p), []
    dH_later = np.zeros_like(d_outputs[0])  # from the step after: none after the last
    for dH_above, (X_t, H_before, H) in zip(d_outputs[::-1], tape[::-1], strict=True):
        dH = dH_above + dH_later
        dA = dH * (1 - H**2)  # of the sum inside tanh, (B, H)
        g["W_xh"] += X_t.T @ dA
        g["W_hh"] += H_before.T @ dA
        g["b_h"] += dA.sum(axis=0)
        dX.append(dA @ p["W_xh"].T)
        dH_later = dA @ p["W_hh"].T
    return np.stack(dX[::-1]), g


def gru_forward(X: Array, state: State, p: Arrays) -> tuple[Array, State, list[Any]]:
    """The gated recurrent unit, reset after the product.

    Z = sigmoid(X_t W_xz + H W_hz + b_z)              update gate
    R = sigmoid(X_t W_xr + H W_hr + b_r)              reset gate
    C = tanh(X_t W_xh + b_h + R * (H W_hh + b_hh))    candidate
    H = Z * H + (1 - Z) * C
    """
    (H,) = state  # (B, H)
    outputs, tape = [], []
    for X_t in X:
        H_before = H
        Z = sigmoid(X_t @ p["W_xz"] + H_before @ p["W_hz"] + p["b_z"])
        R = sigmoid(X_t @ p["W_xr"] + H_before @ p["W_hr"] + p["b_r"])
        P = H_before @ p["W_hh"] + p["b_hh"]  # what the reset gate lets through
        C = np.tanh(X_t @ p["W_xh"] + p["b_h"] + R * P)
        H = Z * H_before + (1 - Z) * C
        outputs.append(H)
        tape.append((X_t, H_before, Z, R, P, C))
    return np.stack(outputs), (H,), tape


def gru_backward(d_outputs: Array, tape: list[Any], p: Arrays) -> tuple[Array, Arrays]:
    g, dX = zeros(p), []
    dH_later = np.zeros_like(d_outputs[0])
    for dH_above, (X_t, H_before, Z, R, P, C) in zip(d_outputs[::-1], tape[::-1], strict=True):
        dH = dH_above + dH_later
        dZ = dH * (H_before - C)
        dC = dH * (1 - Z)
        dA_h = dC * (1 - C**2)  # of the sums inside the three functions, (B, H) each
        dP = dA_h * R
        dR = dA_h * P
        dA_z = dZ * Z * (1 - Z)
        dA_r = dR * R * (1 - R)
        g["W_xz"] += X_t.T @ dA_z
        g["W_hz"] += H_before.T @ dA_z
        g["b_z"] += dA_z.sum(axis=0)
        g["W_xr"] += X_t.T @ dA_r
        g["W_hr"] += H_before.T @ dA_r
        g["b_r"] += dA_r.sum(axis=0)
        g["W_xh"] += X_t.T @ dA_h
        g["b_h"] += dA_h.sum(axis=0)
        g["W_hh"] += H_before.T @ dP
        g["b_hh"] += dP.sum(axis=0)
        dX.append(dA_z @ p["W_xz"].T + dA_r @ p["W_xr"].T + dA_h @ p["W_xh"].T)
        dH_later = dH * Z + dA_z @ p["W_hz"].T + dA_r @ p["W_hr"].T + dP @ p["W_hh"].T
    return np.stack(dX[::-1]), g


def lstm_forward(X: Array, state: State, p: Arrays) -> tuple[Array, State, list[Any]]:
    """Long short-term memory.

    I = sigmoid(X_t W_xi + H W_hi + b_i)    input gate
    F = sigmoid(X_t W_xf + H W_hf + b_f)    forget gate
    O = sigmoid(X_t W_xo + H W_ho + b_o)    output gate
    G = tanh(X_t W_xc + H W_hc + b_c)       candidate
    C = F * C + I * G                       cell state
    H = O * tanh(C)                         hidden state
    """
    H, C = state  # (B, H) each
    outputs, tape = [], []
    for X_t in X:
        H_before, C_before = H, C
        I = sigmoid(X_t @ p["W_xi"] + H_before @ p["W_hi"] + p["b_i"])  # noqa: E741
        F = sigmoid(X_t @ p["W_xf"] + H_before @ p["W_hf"] + p["b_f"])
        O = sigmoid(X_t @ p["W_xo"] + H_before @ p["W_ho"] + p["b_o"])  # noqa: E741
        G = np.tanh(X_t @ p["W_xc"] + H_before @ p["W_hc"] + p["b_c"])
        C = F * C_before + I * G
        H = O * np.tanh(C)
        outputs.append(H)
        tape.append((X_t, H_before, C_before, I, F, O, G, C))
    return np.stack(outputs), (H, C), tape


def lstm_backward(d_outputs: Array, tape: list[Any], p: Arrays) -> tuple[Array, Arrays]:
    g, dX = zeros(p), []
    dH_later = dC_later = np.zeros_like(d_outputs[0])
    for dH_above, (X_t, H_before, C_before, I, F, O, G, C) in zip(  # noqa: E741
        d_outputs[::-1], tape[::-1], strict=True
    ):
        dH = dH_above + dH_later
        dC = dC_later + dH * O * (1 - np.tanh(C) ** 2)
        dA = {  # of the sums inside the four functions, (B, H) each
            "i": dC * G * I * (1 - I),
            "f": dC * C_before * F * (1 - F),
            "o": dH * np.tanh(C) * O * (1 - O),
            "c": dC * I * (1 - G**2),
        }
        for gate, dA_gate in dA.items():
            g[f"W_x{gate}"] += X_t.T @ dA_gate
            g[f"W_h{gate}"] += H_before.T @ dA_gate
            g[f"b_{gate}"] += dA_gate.sum(axis=0)
        dX.append(sum(dA_gate @ p[f"W_x{gate}"].T for gate, dA_gate in dA.items()))
        dH_later = sum(dA_gate @ p[f"W_h{gate}"].T for gate, dA_gate in dA.items())
        dC_later = dC * F
    return np.stack(dX[::-1]), g


@dataclass(frozen=True)
class Cell:
    """A cell: its two passes, its weights in order, and the arrays in its state."""

    forward: Callable[[Array, State, Arrays], tuple[Array, State, list[Any]]]
    backward: Callable[[Array, list[Any], Arrays], tuple[Array, Arrays]]
    weights: tuple[str, ...]
    num_states: int


CELLS = {
    "rnn": Cell(rnn_forward, rnn_backward, ("W_xh", "W_hh", "b_h"), 1),
    "gru": Cell(
        gru_forward,
        gru_backward,
        ("W_xz", "W_hz", "b_z", "W_xr", "W_hr", "b_r", "W_xh", "W_hh", "b_h", "b_hh"),
        1,
    ),
    "lstm": Cell(
        lstm_forward,
        lstm_backward,
        tuple(f"{kind}{gate}" for gate in "ifoc" for kind in ("W_x", "W_h", "b_")),
        2,
    ),
}


# The language model: cells one above the other, a linear layer, softmax, cross-entropy


@dataclass(frozen=True)
class LanguageModel:
    """Characters in, characters out."""

    cell: str
    num_layers: int
    vocab_size: int
    num_hiddens: int

    def prefix(self, layer: int) -> str:
        """What stands before the names of a layer's weights; nothing if it is the only one."""
        return f"layers.{layer}." if self.num_layers > 1 else ""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every parameter, by name, in order."""
        V, H = self.vocab_size, self.num_hiddens
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            D = V if layer == 0 else H
            for name in CELLS[self.cell].weights:
                shape = (H,) if name[0] == "b" else (D, H) if name[:3] == "W_x" else (H, H)
                shapes[self.prefix(layer) + name] = shape
        return shapes | {"W_hq": (H, V), "b_q": (V,)}

    def weights(self, layer: int, p: Arrays) -> Arrays:
        """Those of one layer, by their names in the cell."""
        return {name: p[self.prefix(layer) + name] for name in CELLS[self.cell].weights}

    def begin_state(self, batch_size: int) -> State:
        count = CELLS[self.cell].num_states * self.num_layers
        return tuple(np.zeros((batch_size, self.num_hiddens)) for _ in range(count))

    def forward(self, p: Arrays, X: Array, state: State) -> tuple[Array, State, list[Any]]:
        """Logits (T * B, V), the state after the last step, and the tape; X holds ids (B, T)."""
        cell, n = CELLS[self.cell], CELLS[self.cell].num_states
        H = np.eye(self.vocab_size)[X.T]  # one-hot, (T, B, V)
        after: State = ()
        tapes = []
        for layer in range(self.num_layers):
            H, last, tape = cell.forward(
                H, state[n * layer : n * (layer + 1)], self.weights(layer, p)
            )
            after += last
            tapes.append(tape)
        rows = H.reshape(-1, self.num_hiddens)  # (T * B, H), time-major
        return rows @ p["W_hq"] + p["b_q"], after, [*tapes, rows]

    def backward(self, p: Arrays, d_logits: Array, tapes: list[Any], T: int) -> Arrays:
        """The gradients of all parameters, from that of the logits."""
        *tapes, rows = tapes
        g = {"W_hq": rows.T @ d_logits, "b_q": d_logits.sum(axis=0)}
        dH = (d_logits @ p["W_hq"].T).reshape(T, -1, self.num_hiddens)  # (T, B, H)
        for layer in reversed(range(self.num_layers)):
            dH, of_layer = CELLS[self.cell].backward(dH, tapes[layer], self.weights(layer, p))
            g |= {self.prefix(layer) + name: value for name, value in of_layer.items()}
        return {name: g[name] for name in p}

    def loss_and_gradients(
        self, p: Arrays, X: Array, Y: Array, state: State
    ) -> tuple[float, Arrays, State]:
        """Mean cross-entropy of targets Y (B, T), its gradients, and the state to carry on."""
        logits, state, tapes = self.forward(p, X, state)
        targets = Y.T.reshape(-1)  # (T * B,), time-major like the logits
        loss, d_logits = cross_entropy(logits, targets)
        return loss, self.backward(p, d_logits, tapes, T=X.shape[1]), state

    def continuation(self, p: Arrays, prefix: Array, length: int) -> Iterator[tuple[int, float]]:
        """Each most likely next token, and by how much its logit is above the second's."""
        state, ids = self.begin_state(1), prefix
        for _ in range(length):
            logits, state, _ = self.forward(p, ids[None, :], state)
            second, first = np.sort(logits[-1])[-2:]
            token = int(np.argmax(logits[-1]))
            yield token, float(first - second)
            ids = np.array([token])


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """``-1/N sum_n log softmax(x_n)[target_n]``, and its gradient: softmax minus one-hot.

    logits (N, V), targets (N,).
    """
    N, V = logits.shape
    weights = np.exp(logits)
    softmax = weights / weights.sum(axis=1, keepdims=True)  # (N, V)
    loss = -np.log(softmax[np.arange(N), targets]).sum() / N
    return float(loss), (softmax - np.eye(V)[targets]) / N


# Training: clip, then step


def norm_of(g: Arrays) -> float:
    """The length of all gradients seen as one long vector."""
    return float(np.sqrt(sum((value**2).sum() for value in g.values())))


def clip(g: Arrays, theta: float) -> Arrays:
    """If the norm is above theta, every gradient times theta / norm; else as they are."""
    norm = norm_of(g)
    return {name: theta / norm * value for name, value in g.items()} if norm > theta else g


def sgd(p: Arrays, g: Arrays, lr: float) -> Arrays:
    return {name: p[name] - lr * g[name] for name in p}


# A case of the golden file: inputs to expected results


def trained(case: dict[str, Any], gradients_at: Callable[..., Any], state: Any) -> dict[str, Any]:
    """Clipped steps over all minibatches: the numbers of every step, and where they lead."""
    p = {name: np.array(value) for name, value in case["parameters"].items()}
    steps: dict[str, Any] = {"losses": [], "gradient_norms": [], "clipped_norms": []}
    for X, Y in case["minibatches"]:
        loss, g, state = gradients_at(p, np.array(X), np.array(Y), state)
        clipped = clip(g, case["theta"])
        p = sgd(p, clipped, case["lr"])
        steps["losses"].append(loss)
        steps["gradient_norms"].append(norm_of(g))
        steps["clipped_norms"].append(norm_of(clipped))
        steps.setdefault("first_gradients", g)
    return steps | {"parameters": p, "state": state}


def expected_linear_regression(case: dict[str, Any]) -> dict[str, Any]:
    """What must come out of a case of linear regression."""
    return trained(case, lambda p, X, y, state: (*linear_regression(p, X, y), state), ())


def expected_language_model(case: dict[str, Any]) -> dict[str, Any]:
    """What must come out of a case of a language model."""
    model = LanguageModel(**case["model"])
    batch_size = len(case["minibatches"][0][0])
    result = trained(case, model.loss_and_gradients, model.begin_state(batch_size))
    p, prefix = result["parameters"], np.array(case["prefix"])
    tokens = [token for token, _ in model.continuation(p, prefix, case["continuation_length"])]
    return result | {"continuation": tokens}


def expected(case: dict[str, Any]) -> dict[str, Any]:
    """What must come out of a case."""
    return (expected_language_model if "model" in case else expected_linear_regression)(case)
