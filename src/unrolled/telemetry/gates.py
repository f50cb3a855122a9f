"""`gate_shares`: the shares of GRU and LSTM gates that are shut, and that are open."""

import math
from collections.abc import Sequence

from unrolled.backends.namespace import Array, Namespace
from unrolled.functional.bptt import Tape, gates

SHUT, OPEN = 0.01, 0.99
"""A sigmoid beyond passes back less than 1% of the gradient that arrives at it."""

SAMPLED = 8
"""Time steps that are looked at: shares of thousands of values need no more."""

NAMES = {"gru": ("update", "reset"), "lstm": ("input", "forget", "output")}
"""The gates in the order of `unrolled.functional.bptt.GATES`, without the candidate."""


def gate_shares(xp: Namespace, tapes: Sequence[Tape]) -> Array | None:
    """The share of each gate's values that are shut, and that are open.

    Args:
        xp: array namespace.
        tapes: of the pieces of a sequence, from `unrolled.functional.bptt.forward`.

    Returns:
        ``(2 * G,)``: shut and open of the first gate, of the second, ...; None without gates.

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


def by_gate(cell: str | None, shares: Sequence[float]) -> dict[str, list[float]]:
    """The numbers of `gate_shares` by the names of the gates.

    Example:
        >>> by_gate("gru", [0.25, 0.25, 0.0, 0.5])
        {'update': [0.25, 0.25], 'reset': [0.0, 0.5]}
    """
    if not shares:
        return {}
    return {name: list(shares[2 * i : 2 * i + 2]) for i, name in enumerate(NAMES[cell or ""])}
