"""A recurrence on CPUs by the native kernels: the two passes of `unrolled.kernels.explicit`.

Free of any framework: arrays are NumPy's or CPU tensors, and the caller says how to make
new ones.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.backends import numpy as host
from unrolled.backends.namespace import Array, Namespace
from unrolled.functional import bptt
from unrolled.kernels import native, pool
from unrolled.kernels.explicit import Result, Weights

SMALLEST_SHARE = 2**21
"""Multiplications under which a thread is not worth starting."""


@dataclass(frozen=True)
class Compiled:
    """A cell at work: how to compute, and where arrays come from.

    Args:
        xp: the namespace of the arrays, for what is no loop over time.
        empty: ``(shape, like) -> array`` with undefined values.
        threads: how many to use at most.
        precision: ``"float32"``, or ``"bfloat16"`` for the products of float32 arrays.
    """

    xp: Namespace
    empty: Callable[[tuple[int, ...], Array], Array]
    threads: int
    precision: str = "float32"

    def forward(
        self,
        cell: str,
        X: Array,
        state: Sequence[Array],
        weights: Sequence[Array],
        keep: bool = True,
    ) -> tuple[Array, bptt.Arrays, bptt.Arrays]:
        """Hidden states ``(T, B, H)``, last state, and what `backward` needs (if asked for)."""
        w = Weights.of(cell, weights)
        options = self._options(X.shape[0] * X.shape[1], w.h)
        (T, B), H = X.shape[:2], weights[1].shape[0]
        outputs = self.empty((T, B, H), weights[1])
        cells = self.empty((T, B, H), outputs) if cell == "lstm" else None
        gates = self.empty((T, B, 4 * H), outputs) if keep and cell in ("gru", "lstm") else None
        ids = X if self.xp.is_integer(X) else None
        native.forward(
            cell,
            w.x if ids is not None else self._times(X, w.x),
            w.h,
            outputs,
            ids=ids,
            biases=w.b,
            b_hh=w.rest[0] if w.rest else None,
            h0=state[0],
            c0=state[1] if cells is not None else None,
            cells=cells,
            gates=gates,
            **options,
        )
        new = (outputs,) if cells is None else (outputs, cells)
        kept = tuple(array for array in (cells, gates) if array is not None)
        return outputs, tuple(array[-1] for array in new), kept

    def backward(
        self,
        cell: str,
        X: Array,
        state: Sequence[Array],
        weights: Sequence[Array],
        outputs: Array,
        kept: Sequence[Array],
        dY: Array,
        d_last: Sequence[Array],
        with_hidden: bool = False,
        with_inputs: bool = True,
        by_rows: bool = False,
    ) -> Result:
        """All gradients; that of the inputs and dL/dH_t only if asked for.

        For ``by_rows`` see `unrolled.kernels.explicit.backward`.
        """
        w = Weights.of(cell, weights)
        options = self._options(X.shape[0] * X.shape[1], w.h)
        H, G = outputs.shape[2], len(w.h)
        g = self.through_time(cell, w.h, state, outputs, kept, dY, d_last, with_hidden)
        dA, D = g.inputs, g.recurrent
        dW_h = [self.empty((H, H), outputs) for _ in w.h]
        native.weight_gradient(outputs, D, dW_h, h0=state[0], **options)
        db = [self.empty((H,), outputs) for _ in w.b]
        if by_rows:
            native.row_sums(dA, db, threads=options["threads"])
            dX, dW_x = None, bptt.gates(dA.reshape(-1, G * H), G)
        elif self.xp.is_integer(X):
            dX, dW_x = None, [self.empty(tuple(W.shape), outputs) for W in w.x]
            native.row_sums(dA, db, ids=X, dW_x=dW_x, threads=options["threads"])
        else:
            native.row_sums(dA, db, threads=options["threads"])
            dX = self._times_transposed(dA, w.x) if with_inputs else None
            dW_x = bptt.gates(self._over_time(X, dA), G)
        rest = [self.xp.sum(bptt.gates(D, G)[-1], axis=(0, 1)) for _ in w.rest]
        by_gate = [d for gate in zip(dW_x, dW_h, db, strict=True) for d in gate]
        return Result(dX, g.state, (*by_gate, *rest), g.hidden, D)

    def through_time(
        self,
        cell: str,
        W_h: Sequence[Array],
        state: Sequence[Array],
        outputs: Array,
        kept: Sequence[Array],
        dY: Array,
        d_last: Sequence[Array],
        with_hidden: bool = True,
    ) -> bptt.Gradients:
        """What only the steps in turn can give, without weights and inputs; see `backward`."""
        T, B, H = outputs.shape
        G = len(W_h)
        cells, gates = (kept if cell == "lstm" else (None, *kept, None))[:2]
        D = self.empty((T, B, G * H), outputs)
        dA = self.empty((T, B, G * H), outputs) if cell == "gru" else D
        hidden = self.empty((T, B, H), outputs) if with_hidden else None
        d_state = [self.empty((B, H), outputs) for _ in state]
        native.backward(
            cell,
            W_h,
            outputs,
            D,
            h0=state[0],
            c0=state[1] if cells is not None else None,
            cells=cells,
            gates=gates,
            d_outputs=dY,
            d_h=d_last[0],
            d_c=d_last[1] if cells is not None else None,
            dA=dA if cell == "gru" else None,
            dH=hidden,
            d_h0=d_state[0],
            d_c0=d_state[1] if cells is not None else None,
            **self._options(T * B, W_h),
        )
        return bptt.Gradients(dA, D, hidden, tuple(d_state))

    def along(
        self,
        cell: str,
        W_h: Sequence[Array],
        tape: bptt.Tape,
        dY: Array,
        d_last: Sequence[Array],
    ) -> bptt.Gradients:
        """`through_time` along a tape of `unrolled.functional.bptt`."""
        parts = tape.kept[:2] if cell == "lstm" else tape.kept  # tanh(C) is not kept here
        gates = (self.xp.concat(list(parts), -1),) if parts else ()  # (T, B, 4 * H)
        state = [old[0] for old in tape.old]
        kept = (*tape.new[1:], *gates)
        return self.through_time(cell, W_h, state, tape.new[0], kept, dY, d_last)

    def affine(self, X: Array, W: Array, b: Array) -> Array:
        """``X W + b`` for rows ``X (N, D)``, ``(N, V)``."""
        Y = self.empty((X.shape[0], W.shape[1]), W)
        native.product(X, W, Y, bias=b, **self._options(X.shape[0], [W]))
        return Y

    def affine_back(self, X: Array, W: Array, dY: Array) -> tuple[Array, Array, Array]:
        """The gradients of ``X``, ``W`` and ``b``: ``dY W^T``, ``X^T dY``, the sum over rows."""
        options = self._options(X.shape[0], [W])
        dX, dW = self.empty(tuple(X.shape), X), self.empty(tuple(W.shape), W)
        native.product(dY, W, dX, transpose_b=True, **options)
        native.product(X, dY, dW, transpose_a=True, **options)
        return dX, dW, self.xp.sum(dY, axis=0)

    def _options(self, rows: int, W: Sequence[Array]) -> dict[str, Any]:
        """Threads by the work of multiplying so many rows; in bfloat16 if so chosen."""
        useful = rows * sum(math.prod(part.shape) for part in W) // SMALLEST_SHARE
        precision = self.precision if self.precision == "bfloat16" else ""
        return {"threads": max(1, min(self.threads, useful)), "precision": precision}

    def _times(self, X: Array, W_x: Sequence[Array]) -> Array:
        """``X W_x`` for all gates and steps, ``(T, B, G * H)``."""
        T, B, D = X.shape
        W = bptt.stack_gates(self.xp, W_x)
        A = self.empty((T, B, W.shape[1]), W)
        native.product(
            self.xp.reshape(X, (-1, D)), W, A.reshape(T * B, -1), **self._options(T * B, [W])
        )
        return A

    def _times_transposed(self, dA: Array, W_x: Sequence[Array]) -> Array:
        """``dA W_x^T``, ``(T, B, D)``."""
        T, B, _ = dA.shape
        W = bptt.stack_gates(self.xp, W_x)
        dX = self.empty((T, B, W.shape[0]), W)
        native.product(
            dA.reshape(T * B, -1),
            W,
            dX.reshape(T * B, -1),
            transpose_b=True,
            **self._options(T * B, [W]),
        )
        return dX

    def _over_time(self, X: Array, dA: Array) -> Array:
        """``sum_t X_t^T dA_t``, ``(D, G * H)``."""
        dW = self.empty((X.shape[-1], dA.shape[-1]), dA)
        native.product(
            self.xp.reshape(X, (-1, X.shape[-1])),
            dA.reshape(-1, dA.shape[-1]),
            dW,
            transpose_a=True,
            **self._options(X.shape[0] * X.shape[1], [dW]),
        )
        return dW


def on_host(dtype: Any, precision: str = "float32") -> Compiled | None:
    """The native kernels on NumPy arrays, if they can work on this type here."""
    if np.dtype(dtype).name not in ("float32", "float64"):
        return None
    if not native.available()[0]:
        return None
    return Compiled(
        host.xp, lambda shape, like: pool.empty(shape, like.dtype), num_threads(), precision
    )


def num_threads() -> int:
    """The cores that this process may use, or fewer if OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(wanted), cores or 1) if wanted.isdecimal() and int(wanted) else cores or 1
