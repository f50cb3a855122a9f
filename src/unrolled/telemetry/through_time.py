"""Compute numbers of gradients through time where the arrays are: norms, decay, horizon, gates.

Of one recurrent layer with hidden states ``H_t (B, H)`` there are, for all T steps in the
order in which the layer reads them,

- ``dH``: the gradient of the loss with respect to ``H_t``, through its own output and through
  all later steps, ``(T, B, H)``;
- ``D``: the gradient with respect to the product ``H_{t-1} W_h``, all G gates side by side,
  ``(T, B, G * H)``; so ``dL/dW_h = sum_t H_{t-1}^T D_t``.

The functions over an array namespace run where the arrays are; those over lists of numbers
on what came out of them.
"""

import math
from collections.abc import Sequence

from unrolled.backends.namespace import Array, Namespace
from unrolled.functional.bptt import Tape, gates, shifted

SATURATED = 0.99
"""A tanh unit whose output is larger passes back less than 2% of the gradient."""

UNKNOWN = "unknown"
"""A cell of which nothing is known but its states."""

REACHED = 0.01
"""The gradient reaches as far back as its norm is at least this share of its last."""

SHUT, OPEN = 0.01, 0.99
"""A sigmoid beyond passes back less than 1% of the gradient that arrives at it."""

SAMPLED = 8
"""Time steps of gates that are looked at: shares of thousands of values need no more."""

GATE_NAMES = {"gru": ("update", "reset"), "lstm": ("input", "forget", "output")}
"""The gates in the order of `unrolled.functional.bptt.GATES`, without the candidate."""


def hidden_gradient_norms(xp: Namespace, dH: Array) -> Array:
    """``||dL/dH_t||`` of every step and every sequence of the batch, ``(T, B)``."""
    # float32 holds 1e-30, but not its square: so by an operation that knows, or else measured
    # beside the last step's largest entry
    if xp.row_norms is not None:
        return xp.row_norms(dH)
    unit = xp.amax(xp.abs(dH[-1]))
    unit = unit + (1 - xp.sign(unit))  # 1 where it is 0
    x = dH / unit
    return xp.sqrt(xp.sum(x * x, axis=2)) * unit


def weight_gradient_per_step(xp: Namespace, H_before: Array, D: Array) -> Array:
    """The Frobenius norm of every step's part of ``dL/dW_h``, ``H_{t-1}^T D_t``, as ``(T,)``.

    The parts, ``(T, H, G * H)``, are not formed: ``||H^T D||^2 = trace(D^T H H^T D) =
    sum((H H^T) * (D D^T))`` takes two matrices of ``(B, B)`` instead.
    """
    products = xp.gram(H_before) * xp.gram(D)  # (T, B, B)
    squares = xp.sum(xp.sum(products, axis=2), axis=1)
    # rounding may leave a little below 0 where the parts of the batch cancel
    return xp.sqrt(xp.maximum(squares, xp.zeros_like(squares)))


def saturated_share(xp: Namespace, H: Array, cell: str) -> Array:
    """Share of hidden units that are saturated: ``|h| > 0.99``, for ReLU ``h = 0``.

    Those of a plain recurrent network pass next to nothing back. In a GRU or an LSTM that is for
    the gates to say: a unit that only remembers may stay near 1. Of an `UNKNOWN` cell only states
    that all keep to -1 to 1 are taken for those of a unit that saturates there.
    """
    size = math.prod(H.shape)
    if cell == "rnn_relu":
        return (size - xp.count_above(H, 0.0)) / size
    share = xp.count_above(xp.abs(H), SATURATED) / size
    return share * (xp.count_above(xp.abs(H), 1.0) == 0) if cell == UNKNOWN else share


def layer_numbers(
    xp: Namespace, cell: str, dH: Array, D: Array, H_before: Array, H: Array
) -> Array:
    """All that is recorded of a layer, as one vector: so that it leaves the device once.

    Args:
        xp: array namespace.
        cell: name in `unrolled.functional.bptt.STEPS`.
        dH, D: as above.
        H_before: hidden states before every step, ``(T, B, H)``; or before the first, ``(B, H)``.
        H: hidden states after every step, ``(T, B, H)``.

    Returns:
        ``(3 * T + 1,)``: of every step the mean of ``||dL/dH_t||`` over the batch; the
        largest; the norm of its part of ``dL/dW_h``; then the share of saturated units.
    """
    if xp.layer_numbers is not None:
        relu = cell == "rnn_relu"
        measured = xp.layer_numbers(dH, D, H_before, H, 0.0 if relu else SATURATED, relu)
        if measured is not None:
            return measured
    if len(H_before.shape) == 2:
        H_before = shifted(xp, H_before, H)
    norms = hidden_gradient_norms(xp, dH)  # (T, B)
    per_step = [xp.mean(norms, axis=1), xp.amax(norms, axis=1)]
    per_step.append(weight_gradient_per_step(xp, H_before, D))
    return xp.concat([*per_step, xp.reshape(saturated_share(xp, H, cell), (1,))], 0)


def gate_shares(xp: Namespace, tapes: Sequence[Tape]) -> Array | None:
    """The share of each gate's values that are shut, and that are open; None without gates.

    ``(2 * G,)``: shut and open of the first gate, of the second, ...; of the tapes that
    `unrolled.functional.bptt.forward` gives of the pieces of a sequence.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> ZR = np.array([[[0.001, 0.5, 0.5, 0.5]], [[0.5, 1.0, 0.5, 0.5]]])
        >>> gate_shares(xp, [Tape((), (np.zeros((2, 1, 2)),), (ZR,))]).tolist()
        [0.25, 0.25, 0.0, 0.0]
    """
    if not tapes or not tapes[0].kept:
        return None
    pieces = [tape.kept[0][:: max(1, len(tape.kept[0]) // SAMPLED)] for tape in tapes[:SAMPLED]]
    count = tapes[0].kept[0].shape[-1] // tapes[0].new[0].shape[-1]
    shares = []
    for parts in zip(*(gates(piece, count) for piece in pieces), strict=True):
        size = sum(math.prod(part.shape) for part in parts)
        shut, opened = (
            sum(xp.count_above(sign * part, sign * limit) for part in parts) / size
            for sign, limit in ((-1, SHUT), (1, OPEN))
        )
        shares += [shut, opened]
    return xp.stack(shares)


def decay_per_step(norms: Sequence[float]) -> float | None:
    """Factor by which a norm changes for each step back from the last, as geometric mean.

    ``(n_first / n_last)^(1 / (last - first))``; None for a single step, and where the last norm
    is 0 or not finite.
    """
    first, last, steps = norms[0], norms[-1], len(norms) - 1
    if steps < 1 or not last > 0 or not math.isfinite(first / last):
        return None
    return float((first / last) ** (1 / steps))


def horizon_steps(norms: Sequence[float]) -> int | None:
    """How many steps back from the last the norm stays at 1% of its last (`REACHED`) or above.

    None where the last norm is 0 or not finite.
    """
    last = norms[-1]
    if not 0 < last < math.inf:
        return None
    reached = (k for k in range(1, len(norms)) if norms[-1 - k] < REACHED * last)
    return next(reached, len(norms)) - 1
