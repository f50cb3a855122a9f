"""The fast recurrence for PyTorch: an operation of autograd with its derivative written out.

On CPUs the native kernels compute it, where they are built; on NVIDIA's GPUs cuDNN's fused
layers; else, and for gradients through time there, the same passes in PyTorch's operations.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from unrolled.backends.namespace import python_scan
from unrolled.backends.torch import by_rows
from unrolled.backends.torch import xp as framework_xp
from unrolled.functional import bptt
from unrolled.kernels import explicit, native, pool
from unrolled.kernels.compiled import Compiled
from unrolled.kernels.native.arrays import name_of
from unrolled.kernels.vendor import torch as vendor

Tensors = tuple[torch.Tensor, ...]

LARGEST_ONE_HOT = 4096
"""Inputs up to which ids may become one-hot rows for a fused layer."""


def empty(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """A tensor with undefined values; on the CPU from the pool."""
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return like.new_empty(tuple(shape))
    return torch.from_numpy(pool.empty(tuple(shape), name_of(like.dtype)))


def _stack(arrays: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(arrays, out=empty((len(arrays), *arrays[0].shape), arrays[0]))


def _concat(arrays: list[torch.Tensor], axis: int) -> torch.Tensor:
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    return torch.cat(arrays, axis, out=empty(shape, arrays[0]))


def _take(W: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    rows = empty((ids.numel(), W.shape[1]), W)
    return torch.index_select(W, 0, ids.reshape(-1), out=rows).reshape(*ids.shape, -1)


xp = dataclasses.replace(
    framework_xp, scan=python_scan(_stack, torch.unbind), concat=_concat, take=_take
)


def _compiled(arrays: Sequence[torch.Tensor], precision: str = "float32") -> Compiled | None:
    """The native kernels, if they can work on such tensors: on the CPU, all of one type."""
    kinds = {(array.device.type, array.dtype) for array in arrays if array.is_floating_point()}
    if kinds not in ({("cpu", torch.float32)}, {("cpu", torch.float64)}):
        return None
    if not native.available()[0]:
        return None
    return Compiled(xp, empty, torch.get_num_threads(), precision)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        compiled: Compiled,
        cell: str,
        counts: tuple[int, int],
        keep: bool,
        by_rows: bool,
        *arrays: Any,
    ) -> Any:
        num_states, num_taps = counts
        X, *rest = (array.contiguous() for array in (arrays[0], *arrays[1 + num_taps :]))
        X = X.long() if xp.is_integer(X) else X
        state, weights = rest[:num_states], rest[num_states:]
        outputs, last, kept = compiled.forward(cell, X, state, weights, keep)
        ctx.compiled, ctx.cell, ctx.counts, ctx.num_weights = compiled, cell, counts, len(weights)
        ctx.by_rows = by_rows
        ctx.save_for_backward(X, outputs, *state, *weights, *kept)
        return (outputs, *last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dY: Any, *d_last: Any) -> Any:
        X, outputs, *arrays = ctx.saved_tensors
        num_states, num_taps = ctx.counts
        first = num_states + ctx.num_weights
        result = ctx.compiled.backward(
            ctx.cell,
            X,
            arrays[:num_states],
            arrays[num_states:first],
            outputs,
            arrays[first:],
            dY.contiguous(),
            [d.contiguous() for d in d_last],
            with_hidden=num_taps > 0,
            with_inputs=ctx.needs_input_grad[5],
            by_rows=ctx.by_rows,
        )
        if ctx.by_rows:
            result = _as_tables(result, ctx.cell, X, arrays[num_states:first])
        return (None,) * 5 + _in_order(result, num_taps)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compiled: Compiled, *arrays: torch.Tensor) -> torch.Tensor:
        X, W, b = (array.contiguous() for array in arrays)
        ctx.compiled = compiled
        ctx.save_for_backward(X, W)
        Y: torch.Tensor = compiled.affine(X, W, b)
        return Y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dY: torch.Tensor) -> Any:
        return (None, *ctx.compiled.affine_back(*ctx.saved_tensors, dY.contiguous()))


def affine(X: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """See `unrolled.kernels.project`."""
    compiled = _compiled((X, W, b))
    if compiled is None:
        return X @ W + b
    Y: torch.Tensor = _Affine.apply(compiled, X, W, b)  # type: ignore[no-untyped-call]
    return Y


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: str, counts: tuple[int, int], by_rows: bool, *arrays: Any) -> Any:
        num_states, num_taps = counts
        X, arrays = arrays[0], arrays[1 + num_taps :]
        state, weights = arrays[:num_states], arrays[num_states:]
        last, tape = explicit.forward(xp, cell, X, state, weights)
        ctx.cell, ctx.counts, ctx.num_weights = cell, counts, len(weights)
        ctx.by_rows = by_rows
        ctx.save_for_backward(X, *weights, *tape.old, *tape.new, *tape.kept)
        return (tape.new[0], *last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dY: Any, *d_last: Any) -> Any:
        X, *arrays = ctx.saved_tensors
        weights, kept = arrays[: ctx.num_weights], arrays[ctx.num_weights :]
        n, num_taps = ctx.counts
        tape = bptt.Tape(tuple(kept[:n]), tuple(kept[n : 2 * n]), tuple(kept[2 * n :]))
        result = explicit.backward(xp, ctx.cell, X, weights, tape, dY, d_last, ctx.by_rows)
        if ctx.by_rows:
            result = _as_tables(result, ctx.cell, X, weights)
        return (None,) * 3 + _in_order(result, num_taps)


def through_time(
    cell: str, tape: bptt.Tape, W_h: Sequence[torch.Tensor], dY: torch.Tensor, d_last: Tensors
) -> bptt.Gradients:
    """The way back along a tape, without the gradients of weights.

    Args:
        cell: name in `unrolled.functional.bptt.GATES`.
        tape: of the way there.
        W_h: ``(H, H)`` of each gate.
        dY: gradient with respect to the outputs, ``(T, B, H)``.
        d_last: gradient with respect to the last state, ``(B, H)`` each.
    """
    compiled = _compiled((dY, *W_h))
    if compiled is None:
        return bptt.backward(xp, cell, tape, bptt.stack_gates(xp, W_h), dY, d_last)
    W_h, d_last = [W.contiguous() for W in W_h], tuple(d.contiguous() for d in d_last)
    tape = bptt.Tape(*(tuple(x.contiguous() for x in part) for part in vars(tape).values()))
    return compiled.along(cell, W_h, tape, dY.contiguous(), d_last)


def _as_tables(
    result: explicit.Result, cell: str, X: torch.Tensor, weights: Sequence[torch.Tensor]
) -> explicit.Result:
    """The gradients of the rows that ids looked up, as sparse ones of the tables ``W_x``."""
    gradients, ids = list(result.weights), X.reshape(1, -1).long()
    for g, W in enumerate(explicit.Weights.of(cell, weights).x):
        rows = gradients[3 * g]  # W_x comes first among the three of a gate
        gradients[3 * g] = torch.sparse_coo_tensor(ids, rows, W.shape, check_invariants=False)
    return dataclasses.replace(result, weights=tuple(gradients))


def _in_order(result: explicit.Result, num_taps: int) -> tuple[Any, ...]:
    """The gradients in the order of what went in."""
    taps = (result.hidden, result.recurrent)[:num_taps]
    return result.X, *taps, *result.state, *result.weights


def recur(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
    precision: str = "float32",
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`."""
    counts, arrays = (len(state), len(taps)), (X, *taps, *state, *weights)
    if weights[0].device.type == "cuda" and not taps and weights[0].shape[0] <= LARGEST_ONE_HOT:
        return vendor.recur(cell, X, state, weights, bptt.GATES[cell])
    compiled = _compiled(arrays, precision)
    tables = explicit.Weights.of(cell, weights).x
    few = xp.is_integer(X) and all(by_rows(W, X) for W in tables)
    if compiled is None:
        outputs, *last = _Written.apply(  # type: ignore[no-untyped-call]
            cell, counts, few, *arrays
        )
    else:
        keep = torch.is_grad_enabled()
        outputs, *last = _Native.apply(  # type: ignore[no-untyped-call]
            compiled, cell, counts, keep, few, *arrays
        )
    return outputs, tuple(last)
