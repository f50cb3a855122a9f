"""Run a recurrence forward and back on CPUs by calling the native kernels.

Free of any framework: the caller says how a native kernel is called, see `Call`.
"""

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

Call = Callable[..., dict[str, Any]]
"""``(function, like, sizes, reads, writes, **options) -> arrays``: calls a function of the native
library as `unrolled.native.call` does, and returns the new arrays that it has written."""


def in_new_arrays(
    empty: Callable[[tuple[int, ...], Array], Array], readable: Callable[[Array], Array]
) -> Call:
    """Calls at once, where memory is there to be written to."""

    def call(
        function: str,
        like: Array,
        sizes: Mapping[str, int],
        reads: Mapping[str, Any],
        writes: Sequence[str],
        **options: Any,
    ) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, arrays in reads.items():
            several = isinstance(arrays, (list, tuple))
            given[name] = list(map(readable, arrays)) if several else readable(arrays)
        return native.call(function, like, sizes, given, writes, empty, **options)

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
        (T, B), H = X.shape[:2], weights[1].shape[0]
        table = w.x if self.xp.is_integer(X) else None
        sizes = native.recurrence_sizes(cell, (T, B, H), w.h, table)
        reads: dict[str, Any] = {"W_h": w.h, "biases": w.b, "h0": state[0]}
        if table is not None:
            reads["ids"], reads["looked_up"] = X, table
        else:
            A = self.product(self._rows(X), bptt.stack_gates(self.xp, w.x))
            reads["inputs"] = self.xp.reshape(A, (T, B, -1))
        if w.rest:
            reads["b_hh"] = w.rest[0]
        writes = ["outputs"]
        if cell == "lstm":
            reads["c0"] = state[1]
            writes.append("cells")
        if keep and cell in ("gru", "lstm"):
            writes.append("gates")
        options = self._options(T * B * len(w.h) * H * H)
        found = self.call("forward", weights[1], sizes, reads, writes, **options)
        outputs, kept = found.pop("outputs"), tuple(found.values())  # in the order of KEPT
        last = (outputs[-1], found["cells"][-1]) if cell == "lstm" else (outputs[-1],)
        return outputs, last, kept

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
        sparse: bool = False,
        with_state: bool = True,
    ) -> Result:
        """All gradients; those of the inputs, of the state and dL/dH_t only if asked for."""
        w, G = weights_by_kind(cell, weights), len(weights) // 3
        ids = X if self.xp.is_integer(X) and not sparse else None
        sums = ["dW_h", "db"]
        if w.rest:
            sums.append("db_hh")
        g, found = self._through_time(
            cell,
            w.h,
            state,
            outputs,
            kept,
            dY,
            d_last,
            with_hidden,
            with_state,
            sums,
            ids,
            None if ids is None else w.x,
        )
        dX, dW_x = None, found.get("dW_x")
        if sparse:
            dW_x = bptt.gates(self._rows(g.inputs), G)
        elif dW_x is None:
            dA = self._rows(g.inputs)
            if with_inputs:  # dA W_x^T
                dX = self.product(dA, bptt.stack_gates(self.xp, w.x), transpose_b=True)
                dX = self.xp.reshape(dX, X.shape)
            # sum_t X_t^T dA_t
            dW_x = bptt.gates(self.product(self._rows(X), dA, transpose_a=True), G)
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
        sums: Sequence[str] = (),
        ids: Array | None = None,
        table: Sequence[Array] | None = None,
    ) -> tuple[bptt.Gradients, dict[str, Any]]:
        """What only the steps in turn can give; and ``sums`` over them all, by their names."""
        sizes = native.recurrence_sizes(cell, outputs.shape, W_h, table)
        reads = {"W_h": W_h, "outputs": outputs, "d_outputs": dY, "h0": state[0], "d_h": d_last[0]}
        reads |= zip(KEPT[cell], kept, strict=True)
        writes = ["D", *sums]
        if cell == "gru":
            writes.append("dA")
        if cell == "lstm":
            reads["c0"], reads["d_c"] = state[1], d_last[1]
        if with_state:
            writes += ("d_h0", "d_c0")[: len(state)]
        if with_hidden:
            writes.append("dH")
        if ids is not None:
            reads["ids"] = ids
            writes.append("dW_x")
        options = self._options(sizes["T"] * sizes["B"] * sizes["GH"] * sizes["H"])
        found = self.call("backward", outputs, sizes, reads, writes, **options)
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

    def affine_backward(self, X: Array, W: Array, dY: Array) -> tuple[Array, Array, Array]:
        """The gradients of ``X``, ``W`` and ``b``: ``dY W^T``, ``X^T dY``, the sum over rows."""
        sizes = {"N": X.shape[0], "D": X.shape[1], "V": W.shape[1]}
        reads, writes = {"X": X, "W": W, "dY": dY}, ("dX", "dW", "db")
        options = self._options(sizes["N"] * sizes["D"] * sizes["V"])
        found = self.call("affine_backward", X, sizes, reads, writes, **options)
        return found["dX"], found["dW"], found["db"]

    def _options(self, multiplications: int) -> dict[str, Any]:
        """Threads by the amount of work; in bfloat16 if so chosen."""
        useful = multiplications // SMALLEST_SHARE
        precision = self.precision if self.precision == "bfloat16" else ""
        return {"threads": max(1, min(self.threads, useful)), "precision": precision}

    def product(self, A: Array, B: Array, bias: Array | None = None, **transposed: bool) -> Array:
        """``A B``, or ``A B + bias``, see `unrolled.native.product`."""
        sizes = native.product_sizes(A.shape, B.shape, **transposed)
        reads = {"A": A, "B": [B]} if bias is None else {"A": A, "B": [B], "bias": bias}
        options = self._options(sizes["M"] * sizes["N"] * sizes["K"])
        product: Array
        (product,) = self.call("product", B, sizes, reads, ["C"], **options)["C"]
        return product

    def _rows(self, x: Array) -> Array:
        return self.xp.reshape(x, (-1, x.shape[-1]))  # (T * B, .)


def on_host(dtype: Any, threads: int = 0) -> NativeRecurrence | None:
    """The native kernels on NumPy arrays, if they can work on this type here."""
    if np.dtype(dtype).name not in ("float32", "float64") or not native.available()[0]:
        return None
    call = in_new_arrays(lambda shape, like: pool.empty(shape, like.dtype), np.ascontiguousarray)
    return NativeRecurrence(host.xp, call, threads or num_threads())


def num_threads(*variables: str) -> int:
    """The cores that this process may use, or fewer if the environment says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", *variables))
    return min([cores or 1, *(int(n) for n in wanted if n.isdecimal() and int(n))])
