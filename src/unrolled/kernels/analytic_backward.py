"""Forward and analytic backward pass of a recurrence in a framework's array operations.

``kernels/<framework>.py`` wraps the two passes as one operation of the framework with a
derivative of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from unrolled.backends.namespace import Array, Namespace
from unrolled.functional import bptt
from unrolled.functional.linear import affine


class Passes(Protocol):
    """What carries a cell over all steps, and the gradient back.

    `unrolled.functional.bptt` is the one in the framework's own operations; others compute the
    same in other ways, with the same arguments.
    """

    def forward(
        self,
        xp: Namespace,
        cell: str,
        A: Array,
        state: bptt.Arrays,
        W_h: Array,
        b_hh: Array = 0.0,
    ) -> tuple[bptt.Arrays, bptt.Tape]:
        """See `unrolled.functional.bptt.forward`."""

    def backward(
        self,
        xp: Namespace,
        cell: str,
        tape: bptt.Tape,
        W_h: Array,
        dY: Array,
        d_last: bptt.Arrays,
    ) -> bptt.Gradients:
        """See `unrolled.functional.bptt.backward`; the tape is from this `forward`."""


@dataclass(frozen=True)
class Weights:
    """A cell's weights by kind, one of each for every gate.

    Attributes:
        x: ``(D, H)`` each.
        h: ``(H, H)`` each.
        b: ``(H,)`` each.
        rest: the GRU's second candidate bias, else nothing.
    """

    x: Sequence[Array]
    h: Sequence[Array]
    b: Sequence[Array]
    rest: Sequence[Array]

    @classmethod
    def of(cls, cell: str, weights: Sequence[Array]) -> "Weights":
        """The weights as they stand in ``CELLS[cell].weights``: W_x, W_h, b of each gate."""
        size = 3 * len(bptt.GATES[cell])
        return cls(weights[0:size:3], weights[1:size:3], weights[2:size:3], weights[size:])


@dataclass(frozen=True)
class Result:
    """What the backward pass finds, in the shapes of what went in.

    Attributes:
        X: dL/dX, ``(T, B, D)``; None for ids.
        state: dL/d of the first state.
        weights: dL/d of every weight, in the order in which they came.
        hidden, recurrent: see `unrolled.functional.bptt.Gradients`.
    """

    X: Array | None
    state: bptt.Arrays
    weights: tuple[Array, ...]
    hidden: Array
    recurrent: Array


def forward(
    xp: Namespace,
    cell: str,
    X: Array,
    state: bptt.Arrays,
    weights: Sequence[Array],
    passes: Passes = bptt,
) -> tuple[bptt.Arrays, bptt.Tape]:
    """The last state, and the tape; its ``new[0]`` are the outputs ``(T, B, H)``.

    Args:
        xp: array namespace.
        cell: name in `unrolled.functional.bptt.GATES`.
        X: ``(T, B, D)``, or ids ``(T, B)``.
        state: arrays ``(B, H)``.
        weights: in the order of ``CELLS[cell].weights``.
        passes: what carries the cell over time.
    """
    w = Weights.of(cell, weights)
    A = input_side(xp, X, w)
    return passes.forward(xp, cell, A, state, bptt.stack_gates(xp, w.h), *w.rest)


def input_side(xp: Namespace, X: Array, w: Weights) -> Array:
    """What the input contributes to each gate at every step, ``(T, B, G * H)``."""
    if not xp.is_integer(X):
        return affine(xp, X, bptt.stack_gates(xp, w.x), bptt.stack_gates(xp, w.b))
    pairs = list(zip(w.x, w.b, strict=True))
    if w.x[0].shape[0] <= X.shape[0] * X.shape[1]:
        # fewer rows than look-ups: add the bias to each row once
        return xp.take(bptt.stack_gates(xp, [W + b for W, b in pairs]), X)
    return bptt.stack_gates(xp, [affine(xp, X, W, b) for W, b in pairs])


def backward(
    xp: Namespace,
    cell: str,
    X: Array,
    weights: Sequence[Array],
    tape: bptt.Tape,
    dY: Array,
    d_last: bptt.Arrays,
    by_rows: bool = False,
    passes: Passes = bptt,
) -> Result:
    """All gradients of a recurrence.

    Args:
        xp: array namespace.
        cell, X, weights: as for `forward`.
        tape: from `forward`.
        dY: gradient with respect to the outputs, ``(T, B, H)``.
        d_last: gradient with respect to the last state, ``(B, H)`` each.
        by_rows: of ``W_x``, whose rows ids have looked up, give the gradients of those rows,
            ``(T * B, H)``, one for each id, the same ids not added up.
        passes: those of `forward`.
    """
    w = Weights.of(cell, weights)
    g = passes.backward(xp, cell, tape, bptt.stack_gates(xp, w.h), dY, d_last)
    G = len(bptt.GATES[cell])
    rows = xp.reshape(g.inputs, (-1, g.inputs.shape[-1]))  # (T * B, G * H)
    if by_rows:
        dX, dW_x = None, rows
    elif xp.is_integer(X):
        dX, dW_x = None, xp.add_rows(rows, xp.reshape(X, (-1,)), w.x[0].shape[0])
    else:
        W_xT = xp.transpose(bptt.stack_gates(xp, w.x))
        dX, dW_x = g.inputs @ W_xT, bptt.over_time(xp, X, g.inputs)
    dW_h = bptt.over_time(xp, tape.old[0], g.recurrent)  # (H, G * H)
    parts = (bptt.gates(x, G) for x in (dW_x, dW_h, xp.sum(rows, axis=0)))
    by_gate = [gradient for gate in zip(*parts, strict=True) for gradient in gate]
    rest = [xp.sum(bptt.gates(g.recurrent, G)[-1], axis=(0, 1)) for _ in w.rest]
    return Result(dX, g.state, (*by_gate, *rest), g.hidden, g.recurrent)


@dataclass(frozen=True)
class Operations:
    """A recurrence in the framework's own operations, as an engine.

    Every engine has these two methods; `unrolled.kernels.native_recurrence` has the other ones.

    Args:
        xp: namespace of the arrays.
        passes: what carries the cell over time.
    """

    xp: Namespace
    passes: Passes = bptt

    def forward(
        self,
        cell: str,
        X: Array,
        state: bptt.Arrays,
        weights: Sequence[Array],
        keep: bool = True,
    ) -> tuple[Array, bptt.Arrays, bptt.Arrays]:
        """Hidden states ``(T, B, H)``, last state, and what `backward` needs."""
        last, tape = forward(self.xp, cell, X, state, weights, self.passes)
        return tape.new[0], last, (*tape.old, *tape.new[1:], *tape.kept)

    def backward(
        self,
        cell: str,
        X: Array,
        state: bptt.Arrays,
        weights: Sequence[Array],
        outputs: Array,
        kept: bptt.Arrays,
        dY: Array,
        d_last: bptt.Arrays,
        by_rows: bool = False,
        **unused: bool,
    ) -> Result:
        """All gradients, also those that nobody asks for; see `backward` of this file."""
        n = len(state)
        tape = bptt.Tape(kept[:n], (outputs, *kept[n : 2 * n - 1]), kept[2 * n - 1 :])
        return backward(self.xp, cell, X, weights, tape, dY, d_last, by_rows, self.passes)
