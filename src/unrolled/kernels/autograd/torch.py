"""An engine's forward and backward pass as one differentiable operation of PyTorch.

Engines give first derivatives. Where PyTorch records the backward pass too
(``create_graph=True``), for a Hessian or a penalty on gradients, it is that of the formula; and
what `torch.func` transforms is the formula from the start.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from unrolled.backends.namespace import python_scan
from unrolled.backends.torch import by_rows
from unrolled.backends.torch import xp as framework_xp
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels import pool
from unrolled.kernels.analytic_backward import Operations, Result, Weights
from unrolled.kernels.native.calling import name_of

Tensors = tuple[torch.Tensor, ...]

FORMULAS = {cell.engine: cell.forward for cell in (*CELLS.values(), RELU_RNN)}
"""The recurrences for automatic differentiation, by name in `unrolled.functional.bptt.GATES`."""


def empty(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """A tensor with undefined values; on the CPU, if it is large, from the pool."""
    shape, kind = tuple(shape), like.dtype
    large = math.prod(shape) * kind.itemsize >= pool.SMALLEST_BYTES
    if not large or not like.is_cpu or kind not in (torch.float32, torch.float64):
        return like.new_empty(shape)
    return torch.from_numpy(pool.empty(shape, name_of(kind)))


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

OPERATIONS = Operations(xp)
"""The engine of PyTorch's own operations."""


def formula(
    cell: str, X: torch.Tensor, state: Tensors, weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, Tensors]:
    """`recur` under PyTorch's automatic differentiation."""
    outputs, last = FORMULAS[cell](framework_xp, X, state, *weights)
    return outputs, tuple(last)


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
        return outputs, *(part.clone() for part in last)  # no views, see `kernels.torch.recur`

    @staticmethod
    def backward(ctx: Any, dY: Any, *d_last: Any) -> Any:
        saved, first = ctx.saved_tensors, 5 + 1 + ctx.num_taps  # first: of the state's places
        X, *rest = saved[: ctx.num_inputs]
        outputs, *kept = saved[ctx.num_inputs :]
        state, weights = tuple(rest[: ctx.num_states]), rest[ctx.num_states :]
        with torch.no_grad():
            result = ctx.engine.backward(
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
                by_rows=ctx.sparse,
                with_state=any(ctx.needs_input_grad[first : first + ctx.num_states]),
            )
        if torch.is_grad_enabled():  # second derivatives are asked for
            dX, *gradients = _backward_of_formula(ctx.cell, X, state, weights, dY, d_last)
        else:
            of_weights = _as_tables(result, ctx.cell, X, weights) if ctx.sparse else result.weights
            dX, gradients = result.X, [*result.state, *of_weights]
        return (None,) * 5 + (dX, *(result.hidden, result.recurrent)[: ctx.num_taps], *gradients)


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
    outputs, last = formula(cell, inputs[0], tuple(inputs[1 : 1 + n]), inputs[1 + n :])
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
    for g, W in enumerate(Weights.of(cell, weights).x):
        rows = gradients[3 * g]  # W_x comes first among the three of a gate
        gradients[3 * g] = torch.sparse_coo_tensor(ids, rows, W.shape, check_invariants=False)
    return gradients


def recur(
    engine: Any,
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`.

    Args:
        engine: an `Operations`, or another object with its methods.
        cell: name in `unrolled.functional.bptt.GATES`.
        X: ``(T, B, D)``, or ids ``(T, B)``.
        state: arrays ``(B, H)``.
        weights: in the order of ``CELLS[cell].weights``.
        taps: arrays of zeros for dL/dH_t and D, ``(T, B, H)`` and ``(T, B, G * H)``.
    """
    tables = Weights.of(cell, weights).x
    sparse = not X.is_floating_point() and all(by_rows(W, X) for W in tables)
    counts, keep = (len(taps), len(state)), torch.is_grad_enabled()
    outputs, *last = _Recurrence.apply(  # type: ignore[no-untyped-call]
        engine, cell, counts, keep, sparse, X, *taps, *state, *weights
    )
    return outputs, tuple(last)
