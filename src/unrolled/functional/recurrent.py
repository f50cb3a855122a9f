"""Formulas of RNN, GRU, LSTM unrolled over time, for arrays of any framework; `CELLS` lists them.

Every cell has the same signature, ``cell(xp, X, state, *weights) -> (outputs, state)``:

- ``X``: inputs ``(T, B, D)``, or integer ids ``(T, B)`` that stand for one-hot rows;
- ``state``: a tuple of arrays ``(B, H)``, one for RNN and GRU, two for the LSTM;
- ``weights``: in the order of ``CELLS[name].weights``;
- ``outputs``: the hidden state of every step, ``(T, B, H)``.

What the input contributes waits for no earlier step, so `input_side` may compute it for
all steps at once; inside the loop remains what must be there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from unrolled.backends.namespace import Array, Namespace
from unrolled.functional.linear import affine

State = tuple[Array, ...]


def input_side(
    xp: Namespace, X: Array, *gates: tuple[Array, Array]
) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
    """What the input contributes to each gate, ``X_t W + b``, ready for a scan.

    Computed for all steps at once, but for ids of a small vocabulary: their rows are
    looked up step by step, which needs no arrays of ``(T, B, H)`` for the rows and for
    their gradients. Its price is a gradient of ``(V, H)`` at each step, which is why the
    vocabulary must be small, and small beside the batch.

    Args:
        xp: array namespace.
        X: ``(T, B, D)``, or ids ``(T, B)``.
        gates: of each gate, weights ``(D, H)`` and bias ``(H,)``.

    Returns:
        What to scan over, and what makes of its part for one step an array ``(B, H)``
        for each gate.
    """
    num_inputs = gates[0][0].shape[0]
    if xp.is_integer(X) and num_inputs <= 2 * X.shape[1]:
        return X, lambda X_t: tuple(affine(xp, X_t, W, b) for W, b in gates)
    return tuple(affine(xp, X, W, b) for W, b in gates), lambda A_t: A_t


def rnn(
    xp: Namespace,
    X: Array,
    state: State,
    W_xh: Array,
    W_hh: Array,
    b_h: Array,
    relu: bool = False,
) -> tuple[Array, State]:
    """Elman's recurrent network with tanh units.

    ``H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h)``

    Args:
        xp: array namespace.
        X: ``(T, B, D)`` or ids ``(T, B)``.
        state: one array ``(B, H)``, in a tuple, as other cells have several.
        W_xh: ``(D, H)``.
        W_hh: ``(H, H)``.
        b_h: ``(H,)``.
        relu: ``max(., 0)`` in the place of tanh.

    Returns:
        Hidden states ``(T, B, H)`` and the last state.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> X = np.array([[[1.0, 0.0]], [[0.0, 2.0]]])  # T=2, B=1, D=2
        >>> W, U = np.array([[0.1, 0.2], [0.1, 0.2]]), np.array([[0.0, 0.1], [0.1, 0.0]])
        >>> outputs, _ = rnn(xp, X, (np.zeros((1, 2)),), W, U, np.array([0.1, 0.1]))
        >>> outputs[-1].round(5)
        array([[0.31774, 0.4775 ]])

    Reference: J. L. Elman, Finding structure in time, Cognitive Science 14, 1990.
    """
    inputs, project = input_side(xp, X, (W_xh, b_h))

    def step(state: State, X_t: Array) -> tuple[State, Array]:
        (H,) = state  # (B, H)
        (A,) = project(X_t)
        S = A + H @ W_hh
        H = xp.maximum(S, xp.zeros_like(S)) if relu else xp.tanh(S)
        return (H,), H

    return xp.scan(step, state, inputs)


def gru(
    xp: Namespace,
    X: Array,
    state: State,
    W_xz: Array,
    W_hz: Array,
    b_z: Array,
    W_xr: Array,
    W_hr: Array,
    b_r: Array,
    W_xh: Array,
    W_hh: Array,
    b_h: Array,
    b_hh: Array | None = None,
) -> tuple[Array, State]:
    """Gated recurrent unit: update gate Z, reset gate R, candidate C.

    ``Z = sigmoid(X_t W_xz + H W_hz + b_z)``, ``R = sigmoid(X_t W_xr + H W_hr + b_r)``,
    ``H_t = Z H + (1 - Z) C``, and the candidate in one of two conventions:

    - with ``b_hh``, reset after the product, ``C = tanh(X_t W_xh + b_h + R (H W_hh + b_hh))``:
      what cuDNN, PyTorch, Keras and Flax compute, and so do the models here (``CELLS``): the
      same weights give the same numbers everywhere;
    - without, reset before it, ``C = tanh(X_t W_xh + b_h + (R H) W_hh)``, as textbooks print it.

    Args:
        xp: array namespace.
        X: ``(T, B, D)`` or ids ``(T, B)``.
        state: one array ``(B, H)``, in a tuple, as other cells have several.
        W_xz, W_xr, W_xh: ``(D, H)``.
        W_hz, W_hr, W_hh: ``(H, H)``.
        b_z, b_r, b_h, b_hh: ``(H,)``.

    Returns:
        Hidden states ``(T, B, H)`` and the last state.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> W, U, b = np.full((2, 3), 0.1), np.full((3, 3), 0.1), np.zeros(3)
        >>> outputs, _ = gru(xp, np.ones((4, 1, 2)), (np.zeros((1, 3)),), *[W, U, b] * 3)
        >>> outputs.shape
        (4, 1, 3)

    Reference: K. Cho et al., Learning phrase representations using RNN encoder-decoder,
    2014, https://arxiv.org/abs/1406.1078 (both conventions stand in its versions 1 and 3).
    """
    inputs, project = input_side(xp, X, (W_xz, b_z), (W_xr, b_r), (W_xh, b_h))

    def step(state: State, X_t: Array) -> tuple[State, Array]:
        (H,) = state  # (B, H)
        A_z, A_r, A_c = project(X_t)
        Z = xp.sigmoid(A_z + H @ W_hz)
        R = xp.sigmoid(A_r + H @ W_hr)
        C = xp.tanh(A_c + ((R * H) @ W_hh if b_hh is None else R * (H @ W_hh + b_hh)))
        H = Z * H + (1 - Z) * C
        return (H,), H

    return xp.scan(step, state, inputs)


def lstm(
    xp: Namespace,
    X: Array,
    state: State,
    W_xi: Array,
    W_hi: Array,
    b_i: Array,
    W_xf: Array,
    W_hf: Array,
    b_f: Array,
    W_xo: Array,
    W_ho: Array,
    b_o: Array,
    W_xc: Array,
    W_hc: Array,
    b_c: Array,
) -> tuple[Array, State]:
    """Long short-term memory: input gate I, forget gate F, output gate O, cell state C.

    ``I, F, O = sigmoid(X_t W_x. + H W_h. + b_.)``, ``C_t = F C + I tanh(X_t W_xc + H W_hc + b_c)``,
    ``H_t = O tanh(C_t)``

    Args:
        xp: array namespace.
        X: ``(T, B, D)`` or ids ``(T, B)``.
        state: ``(H, C)``, each ``(B, H)``.
        W_xi, W_xf, W_xo, W_xc: ``(D, H)``.
        W_hi, W_hf, W_ho, W_hc: ``(H, H)``.
        b_i, b_f, b_o, b_c: ``(H,)``.

    Returns:
        Hidden states ``(T, B, H)`` and the last state ``(H, C)``.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> W, U = np.array([[0.1, 0.2], [0.1, 0.2]]), np.array([[0.0, 0.1], [0.1, 0.0]])
        >>> zeros, b = np.zeros((1, 2)), np.array([0.1, 0.1])
        >>> _, (H, C) = lstm(xp, np.array([[[1.0, 0.0]]]), (zeros, zeros), *[W, U, b] * 4)
        >>> H.round(5)
        array([[0.05944, 0.09524]])

    Reference: S. Hochreiter, J. Schmidhuber, Long short-term memory, Neural Computation
    9(8), 1997; with the forget gate of F. Gers et al., 2000.
    """
    inputs, project = input_side(xp, X, (W_xi, b_i), (W_xf, b_f), (W_xo, b_o), (W_xc, b_c))

    def step(state: State, X_t: Array) -> tuple[State, Array]:
        H, C = state  # (B, H) each
        A_i, A_f, A_o, A_c = project(X_t)
        I = xp.sigmoid(A_i + H @ W_hi)  # noqa: E741 (the letter of the equation)
        F = xp.sigmoid(A_f + H @ W_hf)
        O = xp.sigmoid(A_o + H @ W_ho)  # noqa: E741
        C = F * C + I * xp.tanh(A_c + H @ W_hc)
        H = O * xp.tanh(C)
        return (H, C), H

    return xp.scan(step, state, inputs)


@dataclass(frozen=True)
class Cell:
    """What must be known of a cell to build and run it.

    Attributes:
        name: as in ``CELLS``.
        forward: the formula, ``forward(xp, X, state, *weights)``.
        weights: names of its weights in the order of the formula.
        num_states: arrays in its state tuple.
        engine: name of its derivative in `unrolled.functional.bptt.STEPS`.
    """

    name: str
    forward: Callable[..., tuple[Array, State]]
    weights: tuple[str, ...]
    num_states: int
    engine: str

    def shapes(self, num_inputs: int, num_hiddens: int) -> dict[str, tuple[int, ...]]:
        """Shape of every weight, by name.

        Example:
            >>> CELLS["rnn"].shapes(28, 512)
            {'W_xh': (28, 512), 'W_hh': (512, 512), 'b_h': (512,)}
        """
        by_prefix = {
            "W_x": (num_inputs, num_hiddens),
            "W_h": (num_hiddens, num_hiddens),
            "b": (num_hiddens,),
        }
        return {
            name: next(s for prefix, s in by_prefix.items() if name.startswith(prefix))
            for name in self.weights
        }


def _gates(*letters: str) -> tuple[str, ...]:
    return tuple(f"{kind}{g}" for g in letters for kind in ("W_x", "W_h", "b_"))


CELLS: dict[str, Cell] = {
    "rnn": Cell("rnn", rnn, _gates("h"), num_states=1, engine="rnn"),
    "gru": Cell("gru", gru, (*_gates("z", "r", "h"), "b_hh"), num_states=1, engine="gru"),
    "lstm": Cell("lstm", lstm, _gates("i", "f", "o", "c"), num_states=2, engine="lstm"),
}

RELU_RNN = Cell(
    "rnn", partial(rnn, relu=True), CELLS["rnn"].weights, num_states=1, engine="rnn_relu"
)
"""The RNN with units ``max(., 0)``."""
