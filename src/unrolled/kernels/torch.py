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
from unrolled.backends.torch import xp as framework_xp
from unrolled.functional import bptt
from unrolled.kernels import explicit, native, pool
from unrolled.kernels.compiled import Compiled
from unrolled.kernels.vendor import torch as vendor

Tensors = tuple[torch.Tensor, ...]

LARGEST_ONE_HOT = 4096
"""Inputs up to which ids may become one-hot rows for a fused layer."""


def empty(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """A tensor with undefined values; on the CPU from the pool."""
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return like.new_empty(tuple(shape))
    return torch.from_numpy(pool.empty(tuple(shape), str(like.dtype).removeprefix("torch.")))


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
        ctx: Any, compiled: Compiled, cell: str, counts: tuple[int, int], keep: bool, *arrays: Any
    ) -> Any:
        num_states, num_taps = counts
        X, *rest = (array.contiguous() for array in (arrays[0], *arrays[1 + num_taps :]))
        X = X.long() if xp.is_integer(X) else X
        state, weights = rest[:num_states], rest[num_states:]
        outputs, last, kept = compiled.forward(cell, X, state, weights, keep)
        ctx.compiled, ctx.cell, ctx.counts, ctx.num_weights = compiled, cell, counts, len(weights)
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
            with_inputs=ctx.needs_input_grad[4],
        )
        return (None,) * 4 + _in_order(result, num_taps)


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
    def forward(ctx: Any, cell: str, counts: tuple[int, int], *arrays: Any) -> Any:
        num_states, num_taps = counts
        X, arrays = arrays[0], arrays[1 + num_taps :]
        state, weights = arrays[:num_states], arrays[num_states:]
        last, tape = explicit.forward(xp, cell, X, state, weights)
        ctx.cell, ctx.counts, ctx.num_weights = cell, counts, len(weights)
        ctx.save_for_backward(X, *weights, *tape.old, *tape.new, *tape.kept)
        return (tape.new[0], *last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dY: Any, *d_last: Any) -> Any:
        X, *arrays = ctx.saved_tensors
        weights, kept = arrays[: ctx.num_weights], arrays[ctx.num_weights :]
        n, num_taps = ctx.counts
        tape = bptt.Tape(tuple(kept[:n]), tuple(kept[n : 2 * n]), tuple(kept[2 * n :]))
        result = explicit.backward(xp, ctx.cell, X, weights, tape, dY, d_last)
        return (None, None, *_in_order(result, num_taps))


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
    if compiled is None:
        outputs, *last = _Written.apply(cell, counts, *arrays)  # type: ignore[no-untyped-call]
    else:
        keep = torch.is_grad_enabled()
        outputs, *last = _Native.apply(  # type: ignore[no-untyped-call]
            compiled, cell, counts, keep, *arrays
        )
    return outputs, tuple(last)
