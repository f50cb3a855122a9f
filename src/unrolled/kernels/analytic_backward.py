"""`Operations`: a recurrence and its analytic gradients in a framework's array operations.

``kernels/<framework>.py`` wraps the two passes as one operation of the framework with a
derivative of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unrolled.backends.namespace import Array, Namespace
from unrolled.functional import bptt
from unrolled.functional.linear import affine


class Weights(NamedTuple):
    """A cell's weights by kind, one of each for every gate; see `weights_by_kind`.

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


def weights_by_kind(cell: str, weights: Sequence[Array]) -> Weights:
    """Sort weights that come in the order of ``CELLS[cell].weights``: W_x, W_h, b of each gate."""
    size = 3 * len(bptt.GATES[cell])
    return Weights(weights[0:size:3], weights[1:size:3], weights[2:size:3], weights[size:])


class Result(NamedTuple):
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


def input_side(xp: Namespace, X: Array, w: Weights) -> Array:
    """What the input contributes to each gate at every step, ``(T, B, G * H)``."""
    if not xp.is_integer(X):
        return affine(xp, X, bptt.stack_gates(xp, w.x), bptt.stack_gates(xp, w.b))
    pairs = list(zip(w.x, w.b, strict=True))
    if w.x[0].shape[0] <= X.shape[0] * X.shape[1]:
        # fewer rows than look-ups: add the bias to each row once
        return xp.take(bptt.stack_gates(xp, [W + b for W, b in pairs]), X)
    return bptt.stack_gates(xp, [affine(xp, X, W, b) for W, b in pairs])


@dataclass(frozen=True)
class Operations:
    """A recurrence in the framework's own operations, as an engine.

    Every engine has `forward` and `backward`; `unrolled.kernels.native_recurrence` has the
    other ones.

    Args:
        xp: namespace of the arrays.
        passes: carries the cell over time and the gradient back: `unrolled.functional.bptt`, or an
            object with the same functions ``forward`` and ``backward``.
    """

    xp: Namespace
    passes: Any = bptt

    def tape(
        self, cell: str, X: Array, state: bptt.Arrays, weights: Sequence[Array]
    ) -> tuple[bptt.Arrays, bptt.Tape]:
        """The last state, and the tape; its ``new[0]`` are the outputs ``(T, B, H)``.

        Args:
            cell: name in `unrolled.functional.bptt.GATES`.
            X: ``(T, B, D)``, or ids ``(T, B)``.
            state: arrays ``(B, H)``.
            weights: in the order of ``CELLS[cell].weights``.
        """
        w = weights_by_kind(cell, weights)
        A, W_h = input_side(self.xp, X, w), bptt.stack_gates(self.xp, w.h)
        last, tape = self.passes.forward(self.xp, cell, A, state, W_h, *w.rest)
        return last, tape

    def forward(
        self,
        cell: str,
        X: Array,
        state: bptt.Arrays,
        weights: Sequence[Array],
        keep: bool = True,
    ) -> tuple[Array, bptt.Arrays, bptt.Arrays]:
        """Hidden states ``(T, B, H)``, last state, and what `backward` needs."""
        last, tape = self.tape(cell, X, state, weights)
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
        sparse: bool = False,
        **unused: bool,
    ) -> Result:
        """All gradients, also those that nobody asks for.

        Args:
            cell, X, state, weights: as for `forward`, which gave ``outputs`` and ``kept``.
            outputs, kept: from there.
            dY: gradient with respect to the outputs, ``(T, B, H)``.
            d_last: gradient with respect to the last state, ``(B, H)`` each.
            sparse: of ``W_x``, whose rows ids have looked up, give the gradients of those rows,
                ``(T * B, H)``, one for each id, the same ids not added up.
        """
        xp, n, w = self.xp, len(state), weights_by_kind(cell, weights)
        tape = bptt.Tape(kept[:n], (outputs, *kept[n : 2 * n - 1]), kept[2 * n - 1 :])
        g = self.passes.backward(xp, cell, tape, bptt.stack_gates(xp, w.h), dY, d_last)
        G = len(bptt.GATES[cell])
        rows = xp.reshape(g.inputs, (-1, g.inputs.shape[-1]))  # (T * B, G * H)
        if sparse:
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
