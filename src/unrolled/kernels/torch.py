"""Run PyTorch recurrences by the native kernels, cuDNN, Triton, or PyTorch's operations.

An engine's forward and backward pass become one differentiable operation. Engines give first
derivatives. Where PyTorch records the backward pass too (``create_graph=True``), for a Hessian or
a penalty on gradients, it is that of the formula; and what `torch.func` transforms is the
formula from the start.
"""

import dataclasses
import importlib
import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from unrolled import native
from unrolled.backends.namespace import python_scan
from unrolled.backends.torch import in_transform, sparse_gradient
from unrolled.backends.torch import xp as framework_xp
from unrolled.errors import SettingError
from unrolled.functional import bptt
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels import check_engine
from unrolled.kernels.analytic_backward import Operations, Result, weights_by_kind
from unrolled.kernels.cudnn import torch as cudnn
from unrolled.kernels.native_recurrence import NativeRecurrence, in_new_arrays
from unrolled.native import pool

Tensors = tuple[torch.Tensor, ...]

FORMULAS = {cell.engine: cell.forward for cell in (*CELLS.values(), RELU_RNN)}
"""The recurrences for automatic differentiation, by name in `unrolled.functional.bptt.GATES`."""


def _empty(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """A tensor with undefined values; on the CPU, if it is large, from the pool."""
    large = math.prod(shape) * like.dtype.itemsize >= pool.SMALLEST_BYTES
    if not large or not like.is_cpu or like.dtype not in (torch.float32, torch.float64):
        return like.new_empty(shape)
    return torch.from_numpy(pool.empty(tuple(shape), f"f{like.dtype.itemsize}"))


def _stack(arrays: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(arrays, out=_empty((len(arrays), *arrays[0].shape), arrays[0]))


def _concat(arrays: list[torch.Tensor], axis: int) -> torch.Tensor:
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    return torch.cat(arrays, axis, out=_empty(shape, arrays[0]))


def _take(W: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    rows = _empty((ids.numel(), W.shape[1]), W)
    return torch.index_select(W, 0, ids.reshape(-1), out=rows).reshape(*ids.shape, -1)


xp = dataclasses.replace(
    framework_xp, scan=python_scan(_stack, torch.unbind), concat=_concat, take=_take
)
"""PyTorch's operations in memory from the pool, without gradients."""

OPERATIONS = Operations(xp)
"""The engine of PyTorch's own operations."""


_call = in_new_arrays(_empty, torch.Tensor.contiguous)


def _native_kernels(
    arrays: Sequence[torch.Tensor], precision: str = "float32"
) -> NativeRecurrence | None:
    """The native kernels, if they can work on such tensors: on the CPU, all of one type."""
    kind = arrays[-1].dtype
    if kind not in (torch.float32, torch.float64) or not native.available()[0]:
        return None
    for array in arrays:
        if not array.is_cpu or (array.dtype != kind and array.is_floating_point()):
            return None
    return NativeRecurrence(xp, _call, torch.get_num_threads(), precision)


class _Recurrence(torch.autograd.Function):
    """Arguments after ``sparse`` are X, taps, state and weights, one after the other."""

    @staticmethod
    def forward(
        ctx: Any,
        engine: Any,
        cell: str,
        counts: tuple[int, int],
        keep: bool,
        sparse: bool,
        *arrays: Any,
    ) -> Any:
        num_taps, num_states = counts
        X, *rest = arrays[0], *arrays[1 + num_taps :]
        state, weights = tuple(rest[:num_states]), rest[num_states:]
        outputs, last, kept = engine.forward(cell, X, state, weights, keep)
        ctx.engine, ctx.cell, ctx.sparse = engine, cell, sparse
        ctx.num_taps, ctx.num_states, ctx.num_inputs = num_taps, num_states, 1 + len(rest)
        ctx.save_for_backward(X, *rest, outputs, *kept)
        return outputs, *map(torch.clone, last)  # no views, see `recur`

    @staticmethod
    def backward(ctx: Any, dY: Any, *d_last: Any) -> Any:
        saved = ctx.saved_tensors
        X, *rest = saved[: ctx.num_inputs]
        outputs, *kept = saved[ctx.num_inputs :]
        state, weights = tuple(rest[: ctx.num_states]), rest[ctx.num_states :]
        first = 5 + 1 + ctx.num_taps  # of the state's places
        differentiate = partial(
            ctx.engine.backward,
            ctx.cell,
            X,
            state,
            weights,
            outputs,
            tuple(kept),
            dY,
            d_last,
            with_hidden=ctx.num_taps > 0,
            with_inputs=ctx.needs_input_grad[5],
            sparse=ctx.sparse,
            with_state=True in ctx.needs_input_grad[first : first + ctx.num_states],
        )
        if torch.is_grad_enabled():  # second derivatives are asked for
            with torch.no_grad():
                result = differentiate()
            dX, *gradients = _backward_of_formula(ctx.cell, X, state, weights, dY, d_last)
        else:
            result = differentiate()
            of_weights = _as_tables(result, ctx.cell, X, weights) if ctx.sparse else result.weights
            dX, gradients = result.X, [*result.state, *of_weights]
        return (None,) * 5 + (dX, *(result.hidden, result.recurrent)[: ctx.num_taps], *gradients)


def _formula(
    cell: str, X: torch.Tensor, state: Tensors, weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, Tensors]:
    """The recurrence under PyTorch's automatic differentiation."""
    outputs, last = FORMULAS[cell](framework_xp, X, state, *weights)
    return outputs, tuple(last)


def _backward_of_formula(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    dY: torch.Tensor,
    d_last: Tensors,
) -> list[torch.Tensor | None]:
    """Differentiable gradients of ``X``, state and weights."""
    # aliases: the gradient of a weight that stands at two places is that of each place
    inputs = [x.view_as(x) for x in (X, *state, *weights)]
    n = len(state)
    outputs, last = _formula(cell, inputs[0], tuple(inputs[1 : 1 + n]), inputs[1 + n :])
    wanted = [x for x in inputs if x.requires_grad]
    gradients = iter(
        torch.autograd.grad(
            (outputs, *last), wanted, (dY, *d_last), create_graph=True, allow_unused=True
        )
    )
    return [next(gradients) if x.requires_grad else None for x in inputs]


def _as_tables(
    result: Result, cell: str, X: torch.Tensor, weights: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """The gradients of the weights, those of the rows that ids looked up as sparse tables."""
    gradients, ids = list(result.weights), X.reshape(1, -1).long()
    for g, W in enumerate(weights_by_kind(cell, weights).x):
        rows = gradients[3 * g]  # W_x comes first among the three of a gate
        gradients[3 * g] = torch.sparse_coo_tensor(ids, rows, W.shape, check_invariants=False)
    return gradients


def differentiable(
    engine: Any,
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
) -> tuple[torch.Tensor, Tensors]:
    """A recurrence by an engine, an `Operations` or `NativeRecurrence`, as one operation."""
    tables = weights[0 : 3 * len(bptt.GATES[cell]) : 3]
    # the gates' tables have one size: where the first is too small, all are
    sparse = not X.is_floating_point() and sparse_gradient(tables[0], X)
    sparse = sparse and all(sparse_gradient(W, X) for W in tables)
    counts, keep = (len(taps), len(state)), torch.is_grad_enabled()
    outputs, *last = _Recurrence.apply(  # type: ignore[no-untyped-call]
        engine, cell, counts, keep, sparse, X, *taps, *state, *weights
    )
    return outputs, tuple(last)


def recur(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
    precision: str = "float32",
    engine: str = "auto",
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`.

    The last state is no view of the outputs: books cut it off with ``detach_()``, which PyTorch
    forbids for views.
    """
    if in_transform():
        return _formula(cell, X, state, weights)
    if engine == "triton":
        check_engine(engine, "torch", weights[0].is_cuda)
        return differentiable(_triton(), cell, X, state, weights, taps)
    if weights[0].is_cuda:
        if precision != "float32":
            raise SettingError(
                f"precision={precision} is for CPUs, these weights are on {weights[0].device}. "
                "Take precision=float32, and torch.autocast or "
                "torch.set_float32_matmul_precision('high')"
            )
        if cudnn.suits(X, state, weights, taps):
            return cudnn.recur(cell, X, state, weights)
        return differentiable(OPERATIONS, cell, X, state, weights, taps)
    kernels = _native_kernels((X, *taps, *state, *weights), precision)
    if kernels is not None and not X.is_floating_point():
        X = X.long()
    return differentiable(kernels or OPERATIONS, cell, X, state, weights, taps)


def _triton() -> Operations:
    """The engine of the Triton kernels."""
    if "tensorflow" in sys.modules and "triton" not in sys.modules:
        raise SettingError(
            "engine=triton: once TensorFlow is loaded, loading Triton crashes; import triton first"
        )
    try:
        module = importlib.import_module("unrolled.kernels.triton.torch")
    except ModuleNotFoundError as error:
        raise SettingError(f"engine=triton: {error}; pip install triton") from None
    matmul = torch.backends.cuda.matmul
    # from PyTorch 2.9 on; where it is set, asking in the older way is an error
    setting = getattr(matmul, "fp32_precision", None)
    tf32 = bool(matmul.allow_tf32) if setting is None else setting not in ("none", "ieee")
    return Operations(xp, module.Triton(torch.is_grad_enabled(), tf32))


def through_time(
    cell: str, tape: bptt.Tape, W_h: Sequence[torch.Tensor], dY: torch.Tensor, d_last: Tensors
) -> bptt.Gradients:
    """The backward pass along a tape, without the gradients of weights."""
    kernels = _native_kernels((dY, *W_h))
    if kernels is None:
        return bptt.backward(xp, cell, tape, bptt.stack_gates(xp, W_h), dY, d_last)
    return kernels.along(cell, W_h, tape, dY, d_last)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: NativeRecurrence, *arrays: torch.Tensor) -> torch.Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(*arrays[:2])
        Y: torch.Tensor = kernels.product(*arrays)
        return Y

    @staticmethod
    def backward(ctx: Any, dY: torch.Tensor) -> Any:
        X, W = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are asked for: let PyTorch record
            return None, dY @ W.T, X.T @ dY, dY.sum(0)
        return (None, *ctx.kernels.affine_backward(X, W, dY))


def affine(X: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """See `unrolled.kernels.project`."""
    kernels = None if in_transform() else _native_kernels((X, W, b))
    if kernels is None:
        return X @ W + b
    Y: torch.Tensor = _Affine.apply(kernels, X, W, b)  # type: ignore[no-untyped-call]
    return Y
