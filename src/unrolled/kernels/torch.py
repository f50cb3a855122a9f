"""The fast recurrence for PyTorch: an operation of autograd with its derivative written out.

On CPUs the native kernels compute it, where they are built; on NVIDIA's GPUs the fastest of
several engines (`unrolled.kernels.gpu`); else the same passes in PyTorch's operations.
"""

from collections.abc import Sequence
from typing import Any

import torch

from unrolled.backends.torch import devices, in_transform
from unrolled.functional import bptt
from unrolled.kernels import native
from unrolled.kernels.autograd import torch as autograd
from unrolled.kernels.autograd.torch import (
    Tensors,
    as_tables,
    empty,
    formula,
    in_order,
    kept_of,
    looks_up_few,
    twice_by_formula,
    xp,
)
from unrolled.kernels.gpu import torch as gpu
from unrolled.kernels.native_recurrence import NativeRecurrence, in_new_arrays


def _compiled(
    arrays: Sequence[torch.Tensor], precision: str = "float32"
) -> NativeRecurrence | None:
    """The native kernels, if they can work on such tensors: on the CPU, all of one type.

    Args:
        arrays: ids may be among them, but not the last.
        precision: see `unrolled.kernels.recur`.
    """
    kind = arrays[-1].dtype
    if kind not in (torch.float32, torch.float64) or not native.available()[0]:
        return None
    for array in arrays:
        if not array.is_cpu or (array.dtype != kind and array.is_floating_point()):
            return None
    return NativeRecurrence(xp, in_new_arrays(empty), torch.get_num_threads(), precision)


def _readable(
    X: torch.Tensor, state: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """As the kernels take them: contiguous."""
    return X.contiguous(), [x.contiguous() for x in state], [W.contiguous() for W in weights]


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        compiled: NativeRecurrence,
        cell: str,
        counts: tuple[int, int],
        keep: bool,
        by_rows: bool,
        *arrays: Any,
    ) -> Any:
        num_states, num_taps = counts
        X, *rest = arrays[0], *arrays[1 + num_taps :]
        state, weights = rest[:num_states], rest[num_states:]
        outputs, last, kept = compiled.forward(cell, *_readable(X, state, weights), keep)
        ctx.compiled, ctx.cell, ctx.counts, ctx.num_weights = compiled, cell, counts, len(weights)
        ctx.by_rows = by_rows
        ctx.save_for_backward(X, *state, *weights, outputs, *kept)
        return (outputs, *(part.clone() for part in last))  # no views, see recur

    @staticmethod
    @twice_by_formula
    def backward(ctx: Any, dY: Any, *d_last: Any) -> Any:
        X, state, weights, (outputs, *kept) = kept_of(ctx)
        num_states, num_taps = ctx.counts
        first = 6 + num_taps  # of the state, among what forward was given
        result = ctx.compiled.backward(
            ctx.cell,
            *_readable(X, state, weights),
            outputs,
            kept,
            dY.contiguous(),
            [d.contiguous() for d in d_last],
            with_hidden=num_taps > 0,
            with_inputs=ctx.needs_input_grad[5],
            by_rows=ctx.by_rows,
            with_state=any(ctx.needs_input_grad[first : first + num_states]),
        )
        if ctx.by_rows:
            result = as_tables(result, ctx.cell, X, weights)
        return (None,) * 5 + in_order(result, num_taps)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compiled: NativeRecurrence, *arrays: torch.Tensor) -> torch.Tensor:
        ctx.compiled = compiled
        ctx.save_for_backward(*arrays[:2])
        Y: torch.Tensor = compiled.affine(*(array.contiguous() for array in arrays))
        return Y

    @staticmethod
    def backward(ctx: Any, dY: torch.Tensor) -> Any:
        X, W = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are asked for: let PyTorch record
            return None, dY @ W.T, X.T @ dY, dY.sum(0)
        return (None, *ctx.compiled.affine_back(X.contiguous(), W.contiguous(), dY.contiguous()))


def affine(X: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """See `unrolled.kernels.project`."""
    compiled = None if in_transform() else _compiled((X, W, b))
    if compiled is None:
        return X @ W + b
    Y: torch.Tensor = _Affine.apply(compiled, X, W, b)  # type: ignore[no-untyped-call]
    return Y


def through_time(
    cell: str, tape: bptt.Tape, W_h: Sequence[torch.Tensor], dY: torch.Tensor, d_last: Tensors
) -> bptt.Gradients:
    """The backward pass along a tape, without the gradients of weights.

    Args:
        cell: name in `unrolled.functional.bptt.GATES`.
        tape: of the forward pass.
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


def recur(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
    precision: str = "float32",
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`."""
    outputs, last = _recur(cell, X, state, weights, taps, precision)
    # books cut a state off with detach_(), which PyTorch forbids for a view of the outputs
    return outputs, tuple(part.clone() if part._is_view() else part for part in last)


def _recur(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors,
    precision: str,
) -> tuple[torch.Tensor, Tensors]:
    if in_transform():
        return formula(cell, X, state, weights)
    if weights[0].is_cuda:
        return gpu.recur(cell, X, state, weights, taps, precision)
    compiled = _compiled((X, *taps, *state, *weights), precision)
    if compiled is None:
        return autograd.recur(bptt, cell, X, state, weights, taps)
    few, counts = looks_up_few(cell, X, weights), (len(state), len(taps))
    X = X if X.is_floating_point() else X.contiguous().long()
    outputs, *last = _Native.apply(  # type: ignore[no-untyped-call]
        compiled, cell, counts, torch.is_grad_enabled(), few, X, *taps, *state, *weights
    )
    return outputs, tuple(last)


def on_gpu() -> list[str]:
    """See `unrolled.kernels.on_gpu`."""
    return [line for device in devices(1) for line in gpu.report(device)]
