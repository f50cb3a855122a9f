"""Backpropagation through time for RNN, GRU, LSTM, written out: each cell's step and its gradient.

The formulas of `unrolled.functional.recurrent` under automatic differentiation say the same;
here every derivative stands as an equation, and with them what that hides: the gradient
that arrives at every hidden state. It is also less work: no graph is recorded, and
each weight gradient is one product over all time steps.

The gates of a cell lie side by side on the last axis, in the order of ``GATES``, G of them:

- ``A``: what the input contributes to each gate, ``X_t W_x + b``, ``(T, B, G * H)``;
- ``P``: what the state contributes, ``H_{t-1} W_h`` with ``W_h (H, G * H)``;
- ``D``: the gradient of the loss with respect to ``P``. From it follow
  ``dL/dW_h = sum_t H_{t-1}^T D_t`` and the part of ``dL/dH_{t-1}`` that flows back
  through time, ``D_t W_h^T``. The gradient with respect to ``A`` is the same, but for
  the GRU's candidate, where the reset gate stands between the two.

Reference: P. J. Werbos, Backpropagation through time: what it does and how to do it,
Proceedings of the IEEE 78(10), 1990.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unrolled.backends.namespace import Array, Namespace

Arrays = tuple[Array, ...]

GATES = {"rnn": "h", "rnn_relu": "h", "gru": "zrh", "lstm": "ifoc"}
"""The gates of a cell in the order in which they are stacked, by the letters of its weights."""


def gates(x: Array, count: int) -> list[Array]:
    """The ``count`` parts ``(..., H)`` of ``(..., count * H)``, those of the gates side by side.

    Example:
        >>> import numpy as np
        >>> gates(np.array([1, 2, 3, 4]), 2)
        [array([1, 2]), array([3, 4])]
    """
    H = x.shape[-1] // count
    return [x[..., g * H : (g + 1) * H] for g in range(count)]


# Of each cell one step forward and one step back:
#
#   step(xp, A_t, P_t, state, b_hh) -> (state, kept)
#   step_back(xp, d_state, old_state, state, kept) -> (dA_t, D_t, d_old_state)
#
# d_old_state lacks what flows through P, which is the same for every cell: D_t W_h^T.


def rnn_step(xp: Namespace, A: Array, P: Array, state: Arrays, b_hh: Array) -> tuple[Arrays, ...]:
    """``H_t = tanh(A_t + P_t)``."""
    return (xp.tanh(A + P),), ()


def rnn_step_back(
    xp: Namespace, d_state: Arrays, old: Arrays, new: Arrays, kept: Arrays
) -> tuple[Array, Array, Arrays]:
    """``tanh' = 1 - tanh^2``."""
    (dH,), (H,) = d_state, new
    D = dH * (1 - H * H)
    return D, D, (None,)


def relu_step(xp: Namespace, A: Array, P: Array, state: Arrays, b_hh: Array) -> tuple[Arrays, ...]:
    """``H_t = max(A_t + P_t, 0)``."""
    S = A + P
    return (xp.maximum(S, xp.zeros_like(S)),), ()


def relu_step_back(
    xp: Namespace, d_state: Arrays, old: Arrays, new: Arrays, kept: Arrays
) -> tuple[Array, Array, Arrays]:
    """``relu' = 1`` where the unit is above 0, else 0."""
    (dH,), (H,) = d_state, new
    D = dH * xp.sign(H)
    return D, D, (None,)


def gru_step(xp: Namespace, A: Array, P: Array, state: Arrays, b_hh: Array) -> tuple[Arrays, ...]:
    """Gates Z, R; ``N = P_c + b_hh``; candidate ``C = tanh(A_c + R N)``; ``Z H + (1 - Z) C``."""
    (H,) = state
    h = H.shape[-1]
    ZR = xp.sigmoid(A[..., : 2 * h] + P[..., : 2 * h])
    Z, R = gates(ZR, 2)
    N = P[..., 2 * h :] + b_hh
    C = xp.tanh(A[..., 2 * h :] + R * N)
    return (C + Z * (H - C),), (ZR, C, N)


def gru_step_back(
    xp: Namespace, d_state: Arrays, old: Arrays, new: Arrays, kept: Arrays
) -> tuple[Array, Array, Arrays]:
    """The chain rule through the three gates; N reaches the candidate through R only."""
    (dH,), (H_old,), (ZR, C, N) = d_state, old, kept
    Z, R = gates(ZR, 2)
    dZ, dC = dH * (H_old - C), dH * (1 - Z)
    dA_c = dC * (1 - C * C)
    dR, dN = dA_c * N, dA_c * R
    dA_zr = xp.concat([dZ, dR], -1) * ZR * (1 - ZR)
    return xp.concat([dA_zr, dA_c], -1), xp.concat([dA_zr, dN], -1), (dH * Z,)


def lstm_step(xp: Namespace, A: Array, P: Array, state: Arrays, b_hh: Array) -> tuple[Arrays, ...]:
    """Gates I, F, O, candidate G; ``C_t = F C + I G``; ``H_t = O tanh(C_t)``."""
    return lstm_cell(xp, state[1], *lstm_gates(xp, A + P))


def lstm_gates(xp: Namespace, S: Array) -> tuple[Array, Array]:
    """I, F, O side by side, and G; they need no cell state."""
    h = S.shape[-1] // 4
    return xp.sigmoid(S[..., : 3 * h]), xp.tanh(S[..., 3 * h :])


def lstm_cell(xp: Namespace, C: Array, IFO: Array, G: Array) -> tuple[Arrays, ...]:
    """The states, from the cell state before and the gates."""
    I, F, O = gates(IFO, 3)  # noqa: E741 (the letters of the equations)
    C = F * C + I * G
    tanh_C = xp.tanh(C)
    return (O * tanh_C, C), (IFO, G, tanh_C)


def lstm_step_back(
    xp: Namespace, d_state: Arrays, old: Arrays, new: Arrays, kept: Arrays
) -> tuple[Array, Array, Arrays]:
    """Into ``C_t`` flow the gradient from ``C_{t+1}`` and the one through ``H_t``."""
    (dH, dC), (_, C_old), (IFO, G, tanh_C) = d_state, old, kept
    I, F, O = gates(IFO, 3)  # noqa: E741
    dC = dC + dH * O * (1 - tanh_C * tanh_C)
    dIFO = xp.concat([dC * G, dC * C_old, dH * tanh_C], -1)
    D = xp.concat([dIFO * IFO * (1 - IFO), dC * I * (1 - G * G)], -1)
    return D, D, (None, dC * F)


STEPS: dict[str, tuple[Callable[..., tuple[Arrays, ...]], Callable[..., tuple[Array, ...]]]] = {
    "rnn": (rnn_step, rnn_step_back),
    "rnn_relu": (relu_step, relu_step_back),
    "gru": (gru_step, gru_step_back),
    "lstm": (lstm_step, lstm_step_back),
}


@dataclass(frozen=True)
class Tape:
    """What the backward pass needs of the forward pass.

    Attributes:
        old: the state arrays before every step, ``(T, B, H)`` each.
        new: the state arrays after every step, likewise; ``new[0]`` are the outputs.
        kept: what the cell's step keeps, ``(T, B, .)`` each.
    """

    old: Arrays
    new: Arrays
    kept: Arrays


@dataclass(frozen=True)
class Gradients:
    """What the backward pass finds.

    Attributes:
        inputs: dL/dA, ``(T, B, G * H)``.
        recurrent: D, ``(T, B, G * H)``.
        hidden: dL/dH_t of every step, through its output and all later steps, ``(T, B, H)``.
        state: dL/d of the state before the first step, ``(B, H)`` each.
    """

    inputs: Array
    recurrent: Array
    hidden: Array
    state: Arrays


def forward(
    xp: Namespace, cell: str, A: Array, state: Arrays, W_h: Array, b_hh: Array = 0.0
) -> tuple[Arrays, Tape]:
    """Carry a cell over all steps and keep what the backward pass needs.

    Args:
        xp: array namespace.
        cell: name in ``STEPS``.
        A: the input side, ``(T, B, G * H)``.
        state: arrays ``(B, H)``, one, for the LSTM two.
        W_h: ``(H, G * H)``.
        b_hh: the GRU's second candidate bias, ``(H,)``.

    Returns:
        The last state, and the tape; its ``new[0]`` are the hidden states ``(T, B, H)``.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> A, W = np.array([[[0.2, 0.3]], [[0.3, 0.5]]]), np.array([[0.0, 0.1], [0.1, 0.0]])
        >>> (H,), tape = forward(xp, "rnn", A, (np.zeros((1, 2)),), W)
        >>> H.round(5)
        array([[0.31774, 0.4775 ]])
    """
    step, _ = STEPS[cell]

    def unroll(state: Arrays, A_t: Array) -> tuple[Arrays, Arrays]:
        state, kept = step(xp, A_t, state[0] @ W_h, state, b_hh)
        return state, (*state, *kept)

    stacked, last = xp.scan(unroll, state, A)
    new, kept = stacked[: len(state)], stacked[len(state) :]
    old = tuple(shifted(xp, first, later) for first, later in zip(state, new, strict=True))
    return last, Tape(old, new, kept)


def retrace(
    xp: Namespace, cell: str, A: Array, state: Arrays, outputs: Array, W_h: Array, b_hh: Array = 0.0
) -> Tape:
    """The tape of `forward` where the hidden states are known: one product in the place of T.

    Every step begins with a known state, so none waits for another, but for the sum that the
    LSTM's cell state is. That the tape's ``new[0]`` equals the outputs says that they belong
    to these inputs and weights.

    Args:
        xp: array namespace.
        cell: name in ``STEPS``.
        A: the input side, ``(T, B, G * H)``.
        state: before the first step, ``(B, H)`` each.
        outputs: the hidden state of every step, ``(T, B, H)``.
        W_h: ``(H, G * H)``.
        b_hh: the GRU's second candidate bias, ``(H,)``.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> A, W = np.array([[[0.2, 0.3]], [[0.3, 0.5]]]), np.array([[0.0, 0.1], [0.1, 0.0]])
        >>> state = (np.zeros((1, 2)),)
        >>> _, tape = forward(xp, "rnn", A, state, W)
        >>> again = retrace(xp, "rnn", A, state, tape.new[0], W)
        >>> bool(np.allclose(again.new[0], tape.new[0]))
        True
    """
    step, _ = STEPS[cell]
    before = shifted(xp, state[0], outputs)
    P = before @ W_h  # (T, B, G * H)
    if len(state) == 1:
        new, kept = step(xp, A, P, (before,), b_hh)
        return Tape((before,), new, kept)

    IFO, G = lstm_gates(xp, A + P)

    def unroll(cells: Arrays, gates_t: Arrays) -> tuple[Arrays, Arrays]:
        (H, C), (_, _, tanh_C) = lstm_cell(xp, *cells, *gates_t)
        return (C,), (H, C, tanh_C)

    (H, C, tanh_C), _ = xp.scan(unroll, state[1:], (IFO, G))
    return Tape((before, shifted(xp, state[1], C)), (H, C), (IFO, G, tanh_C))


def shifted(xp: Namespace, first: Array, later: Array) -> Array:
    """The states before every step, ``(T, B, H)``: the first one, and all but the last."""
    return xp.concat([xp.reshape(first, (1, *first.shape)), later[:-1]], 0)


def backward(
    xp: Namespace, cell: str, tape: Tape, W_h: Array, dY: Array, d_last: Arrays
) -> Gradients:
    """Carry the gradient of the loss back from the last step to the first.

    Args:
        xp: array namespace.
        cell: name in ``STEPS``.
        tape: from `forward`.
        W_h: ``(H, G * H)``.
        dY: gradient with respect to the outputs, ``(T, B, H)``, future steps not counted.
        d_last: gradient with respect to the last state, ``(B, H)`` each.

    Returns:
        The gradients at the input side, at the recurrent side and at every state; those of the
        weights follow by `over_time`.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> A, W = np.zeros((3, 1, 1)), np.array([[0.5]])  # tanh'(0) = 1: each step halves
        >>> zero = (np.zeros((1, 1)),)
        >>> _, tape = forward(xp, "rnn", A, zero, W)
        >>> dY = np.array([[[0.0]], [[0.0]], [[1.0]]])
        >>> backward(xp, "rnn", tape, W, dY, zero).hidden.ravel()
        array([0.25, 0.5 , 1.  ])
    """
    _, step_back = STEPS[cell]
    W_hT, count = xp.transpose(W_h), len(tape.new)

    def unroll(d_state: Arrays, inputs_t: Arrays) -> tuple[Arrays, Arrays]:
        dY_t, old = inputs_t[0], inputs_t[1 : 1 + count]
        new, kept = inputs_t[1 + count : 1 + 2 * count], inputs_t[1 + 2 * count :]
        d_state = (d_state[0] + dY_t, *d_state[1:])
        dA, D, direct = step_back(xp, d_state, old, new, kept)
        flows = D @ W_hT  # (B, H)
        d_old = (flows if direct[0] is None else flows + direct[0], *direct[1:])
        return d_old, (d_state[0], D) if dA is D else (d_state[0], D, dA)

    inputs = (dY, *tape.old, *tape.new, *tape.kept)
    (hidden, D, *dA), d_first = xp.scan(unroll, d_last, inputs, reverse=True)
    return Gradients(dA[0] if dA else D, D, hidden, d_first)


def over_time(xp: Namespace, X: Array, dY: Array) -> Array:
    """The gradient of a weight that every step uses: ``sum_t X_t^T dY_t``, one product.

    Args:
        xp: array namespace.
        X: what the weight ``(M, N)`` multiplies, ``(T, B, M)``.
        dY: gradient with respect to the product, ``(T, B, N)``.

    Returns:
        ``(M, N)``.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> X, dY = np.array([[[1.0, 2.0]], [[3.0, 4.0]]]), np.array([[[1.0]], [[10.0]]])
        >>> over_time(xp, X, dY)
        array([[31.],
               [42.]])
    """
    X, dY = (xp.reshape(x, (-1, x.shape[-1])) for x in (X, dY))  # (T * B, .)
    return xp.transpose(X) @ dY


def stack_gates(xp: Namespace, weights: Sequence[Array]) -> Array:
    """The weights of all gates side by side."""
    return weights[0] if len(weights) == 1 else xp.concat(list(weights), -1)
