"""Run a recurrence forward and back on CPUs by calling the native kernels.

Free of any framework: the caller says how a native kernel is called, see `Call`.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled import native
from unrolled.backends import numpy as host
from unrolled.backends.namespace import Array, Namespace
from unrolled.functional import bptt
from unrolled.kernels.analytic_backward import Result, weights_by_kind
from unrolled.native import pool

SMALLEST_SHARE = 2**21
"""Multiplications under which a thread is not worth starting."""

KEPT = {"rnn": (), "rnn_relu": (), "gru": ("gates",), "lstm": ("cells", "gates")}
"""What the backward pass needs beside the outputs, by the kernels' names."""

Shape = tuple[int, ...]

Call = Callable[..., dict[str, Any]]
"""``(function, like, reads, writes, **options) -> arrays``: has a function of
`unrolled.native` read arrays, given by the names of its arguments, and write new
ones, of the type of ``like``; returns these. ``writes`` has their shapes by name, a list of
shapes where the function takes several arrays."""


def in_new_arrays(
    empty: Callable[[Shape, Array], Array], readable: Callable[[Array], Array]
) -> Call:
    """Calls at once, where memory is there to be written to.

    Args:
        empty: ``(shape, like) -> array`` with undefined values.
        readable: makes an array contiguous.
    """

    def call(
        function: Callable[..., None],
        like: Array,
        reads: Mapping[str, Any],
        writes: Mapping[str, Shape | list[Shape]],
        **options: Any,
    ) -> dict[str, Any]:
        for name, given in reads.items():
            several = isinstance(given, (list, tuple))
            options[name] = list(map(readable, given)) if several else readable(given)
        written: dict[str, Any] = {}
        for name, shape in writes.items():
            if isinstance(shape, list):
                written[name] = [empty(each, like) for each in shape]
            else:
                written[name] = empty(shape, like)
        function(**options, **written)
        return written

    return call


@dataclass(frozen=True)
class NativeRecurrence:
    """A cell at work; `forward` and `backward` as of `unrolled.kernels.analytic_backward`.

    Args:
        xp: the namespace of the arrays, for what is no loop over time.
        call: how a native kernel is called.
        threads: how many to use at most.
        precision: ``"float32"``, or ``"bfloat16"`` for the products of float32 arrays.
    """

    xp: Namespace
    call: Call
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
        w = weights_by_kind(cell, weights)
        (T, B), H, G = X.shape[:2], weights[1].shape[0], len(w.h)
        reads: dict[str, Any] = {"W_h": w.h, "biases": w.b, "h0": state[0]}
        writes: dict[str, Any] = {"outputs": (T, B, H)}
        if self.xp.is_integer(X):
            reads["ids"], reads["inputs"] = X, w.x
        else:
            W = bptt.stack_gates(self.xp, w.x)
            A = self._product({"A": self._rows(X), "B": W}, (T * B, G * H))
            reads["inputs"] = self.xp.reshape(A, (T, B, G * H))
        if w.rest:
            reads["b_hh"] = w.rest[0]
        if cell == "lstm":
            reads["c0"], writes["cells"] = state[1], (T, B, H)
        if keep and cell in ("gru", "lstm"):
            writes["gates"] = (T, B, 4 * H)
        options = self._options(T * B * G * H * H)
        found = self.call(native.forward, weights[1], reads, writes, cell=cell, **options)
        outputs, cells, gates = found["outputs"], found.get("cells"), found.get("gates")
        if cells is not None:
            kept = (cells, gates) if keep else (cells,)
            return outputs, (outputs[-1], cells[-1]), kept
        return outputs, (outputs[-1],), () if gates is None else (gates,)

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
        with_state: bool = True,
    ) -> Result:
        """All gradients; those of the inputs, of the state and dL/dH_t only if asked for."""
        w = weights_by_kind(cell, weights)
        H, G = outputs.shape[-1], len(w.h)
        ids = X if self.xp.is_integer(X) and not by_rows else None
        sums: dict[str, Any] = {"dW_h": [(H, H)] * G, "db": [(H,)] * G}
        if ids is not None:
            sums["dW_x"] = [tuple(w.x[0].shape)] * G
        if w.rest:
            sums["db_hh"] = (H,)
        g, found = self._through_time(
            cell, w.h, state, outputs, kept, dY, d_last, with_hidden, with_state, sums, ids
        )
        dX, dW_x = None, found.get("dW_x")
        if by_rows:
            dW_x = bptt.gates(self._rows(g.inputs), G)
        elif dW_x is None:
            dA = self._rows(g.inputs)
            if with_inputs:  # dA W_x^T
                reads = {"A": dA, "B": bptt.stack_gates(self.xp, w.x)}
                dX = self._product(reads, (dA.shape[0], X.shape[-1]), transpose_b=True)
                dX = self.xp.reshape(dX, X.shape)
            # sum_t X_t^T dA_t
            reads = {"A": self._rows(X), "B": dA}
            dW_x = self._product(reads, (X.shape[-1], G * H), transpose_a=True)
            dW_x = bptt.gates(dW_x, G)
        gradients: list[Array] = []
        for of_gate in zip(dW_x, found["dW_h"], found["db"], strict=True):
            gradients += of_gate
        if w.rest:
            gradients.append(found["db_hh"])
        return Result(dX, g.state, tuple(gradients), g.hidden, g.recurrent)

    def _through_time(
        self,
        cell: str,
        W_h: Sequence[Array],
        state: Sequence[Array],
        outputs: Array,
        kept: Sequence[Array],
        dY: Array,
        d_last: Sequence[Array],
        with_hidden: bool = True,
        with_state: bool = True,
        sums: Mapping[str, Any] | None = None,
        ids: Array | None = None,
    ) -> tuple[bptt.Gradients, dict[str, Any]]:
        """What only the steps in turn can give; and over them all the sums of these shapes."""
        (T, B, H), G = outputs.shape, len(W_h)
        reads = {"W_h": W_h, "outputs": outputs, "d_outputs": dY, "h0": state[0], "d_h": d_last[0]}
        reads |= zip(KEPT[cell], kept, strict=True)
        writes: dict[str, Any] = {"D": (T, B, G * H)}
        if cell == "gru":
            writes["dA"] = (T, B, G * H)
        if cell == "lstm":
            reads["c0"], reads["d_c"] = state[1], d_last[1]
        if with_state:
            writes |= zip(("d_h0", "d_c0"), [(B, H)] * len(state), strict=False)
        if with_hidden:
            writes["dH"] = (T, B, H)
        if ids is not None:
            reads["ids"] = ids
        writes |= sums or {}
        options = self._options(T * B * G * H * H)
        found = self.call(native.backward, outputs, reads, writes, cell=cell, **options)
        D = found["D"]
        d_state = (found.get("d_h0"), found.get("d_c0"))[: len(state)]
        return bptt.Gradients(found.get("dA", D), D, found.get("dH"), d_state), found

    def along(
        self,
        cell: str,
        W_h: Sequence[Array],
        tape: bptt.Tape,
        dY: Array,
        d_last: Sequence[Array],
    ) -> bptt.Gradients:
        """The backward pass along a tape of `functional.bptt`, without weights and inputs."""
        parts = tape.kept[:2] if cell == "lstm" else tape.kept  # tanh(C) is not kept here
        gates = (self.xp.concat(list(parts), -1),) if parts else ()  # (T, B, 4 * H)
        state = [old[0] for old in tape.old]
        kept = (*tape.new[1:], *gates)
        return self._through_time(cell, W_h, state, tape.new[0], kept, dY, d_last)[0]

    def affine(self, X: Array, W: Array, b: Array) -> Array:
        """``X W + b`` for rows ``X (N, D)``, ``(N, V)``."""
        return self._product({"A": X, "B": W, "bias": b}, (X.shape[0], W.shape[1]))

    def affine_backward(self, X: Array, W: Array, dY: Array) -> tuple[Array, Array, Array]:
        """The gradients of ``X``, ``W`` and ``b``: ``dY W^T``, ``X^T dY``, the sum over rows."""
        reads: dict[str, Any] = {"X": X, "W": W, "dY": dY}
        writes: dict[str, Any] = {"dX": X.shape, "dW": W.shape, "db": W.shape[1:]}
        options = self._options(X.shape[0] * X.shape[1] * W.shape[1])
        found = self.call(native.affine_backward, X, reads, writes, **options)
        return found["dX"], found["dW"], found["db"]

    def _options(self, multiplications: int) -> dict[str, Any]:
        """Threads by the amount of work; in bfloat16 if so chosen."""
        useful = multiplications // SMALLEST_SHARE
        precision = self.precision if self.precision == "bfloat16" else ""
        return {"threads": max(1, min(self.threads, useful)), "precision": precision}

    def _product(self, reads: Mapping[str, Array], shape: Shape, **transposed: bool) -> Array:
        """A matrix product of this shape, see `unrolled.native.product`."""
        # A has M K elements, and C is (M, N)
        options = self._options(math.prod(reads["A"].shape) * shape[1])
        writes = {"C": shape}
        return self.call(native.product, reads["B"], reads, writes, **transposed, **options)["C"]

    def _rows(self, x: Array) -> Array:
        return self.xp.reshape(x, (-1, x.shape[-1]))  # (T * B, .)


def on_host(dtype: Any, threads: int = 0) -> NativeRecurrence | None:
    """The native kernels on NumPy arrays, if they can work on this type here.

    Args:
        dtype: of the arrays.
        threads: how many to use at most; 0 for `num_threads`.
    """
    if np.dtype(dtype).name not in ("float32", "float64") or not native.available()[0]:
        return None
    call = in_new_arrays(lambda shape, like: pool.empty(shape, like.dtype), np.ascontiguousarray)
    return NativeRecurrence(host.xp, call, threads or num_threads())


def num_threads(*variables: str) -> int:
    """The cores that this process may use, or fewer if the environment says so.

    Args:
        variables: that may say so, beside ``OMP_NUM_THREADS``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", *variables))
    return min([cores or 1, *(int(n) for n in wanted if n.isdecimal() and int(n))])
