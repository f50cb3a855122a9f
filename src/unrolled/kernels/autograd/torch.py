"""The passes written out as an operation of autograd on PyTorch, whatever carries them.

Written out are first derivatives. Where PyTorch shall record the backward pass too
(``create_graph=True``), for a Hessian or a penalty on gradients, the backward pass is that of the
formula; and what `torch.func` transforms is the formula from the start.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch

from unrolled.backends.namespace import python_scan
from unrolled.backends.torch import by_rows
from unrolled.backends.torch import xp as framework_xp
from unrolled.functional import bptt
from unrolled.functional.recurrent import CELLS, RELU_RNN
from unrolled.kernels import analytic_backward, pool
from unrolled.kernels.native.arrays import name_of

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


def kept_of(ctx: Any) -> tuple[torch.Tensor, Tensors, Tensors, Tensors]:
    """What an operation has saved: ``X``, the first state, the weights, and the rest."""
    X, *arrays = ctx.saved_tensors
    states, weights = ctx.counts[0], ctx.num_weights
    return (
        X,
        tuple(arrays[:states]),
        tuple(arrays[states : states + weights]),
        tuple(arrays[states + weights :]),
    )


def twice_by_formula(backward: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """A backward pass that gives numbers, as one that gives a graph where PyTorch asks for it.

    Args:
        backward: of an operation whose last arguments are ``X``, taps, state and weights, and
            which saves them as `kept_of` takes them.
    """

    @wraps(backward)
    def wrapped(ctx: Any, dY: torch.Tensor, *d_last: torch.Tensor) -> tuple[Any, ...]:
        if not torch.is_grad_enabled():
            return backward(ctx, dY, *d_last)
        with torch.no_grad():
            found = backward(ctx, dY, *d_last)
        X, state, weights, _ = kept_of(ctx)
        # aliases: the gradient of a weight that stands at two places is that of each place
        inputs = [x.view_as(x) for x in (X, *state, *weights)]
        n = len(state)
        outputs, last = formula(ctx.cell, inputs[0], tuple(inputs[1 : 1 + n]), inputs[1 + n :])
        wanted = [x for x in inputs if x.requires_grad]
        gradients = iter(
            torch.autograd.grad(
                (outputs, *last), wanted, (dY, *d_last), create_graph=True, allow_unused=True
            )
        )
        of_X, *of_others = [next(gradients) if x.requires_grad else None for x in inputs]
        first = len(found) - len(inputs) - ctx.counts[1]  # those before X are no arrays
        taps = found[first + 1 : first + 1 + ctx.counts[1]]
        return (*found[:first], of_X, *taps, *of_others)

    return wrapped


def formula(
    cell: str, X: torch.Tensor, state: Tensors, weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, Tensors]:
    """`recur` under PyTorch's automatic differentiation."""
    outputs, last = FORMULAS[cell](framework_xp, X, state, *weights)
    return outputs, tuple(last)


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        passes: analytic_backward.Passes,
        cell: str,
        counts: tuple[int, int],
        by_rows: bool,
        *arrays: Any,
    ) -> Any:
        num_states, num_taps = counts
        X, arrays = arrays[0], arrays[1 + num_taps :]
        state, weights = arrays[:num_states], arrays[num_states:]
        last, tape = analytic_backward.forward(xp, cell, X, state, weights, passes)
        ctx.cell, ctx.counts, ctx.num_weights = cell, counts, len(weights)
        ctx.passes, ctx.by_rows = passes, by_rows
        ctx.save_for_backward(X, *state, *weights, *tape.old, *tape.new, *tape.kept)
        return (tape.new[0], *last)

    @staticmethod
    @twice_by_formula
    def backward(ctx: Any, dY: Any, *d_last: Any) -> Any:
        X, _, weights, kept = kept_of(ctx)
        n, num_taps = ctx.counts
        tape = bptt.Tape(kept[:n], kept[n : 2 * n], kept[2 * n :])
        result = analytic_backward.backward(
            xp, ctx.cell, X, weights, tape, dY, d_last, ctx.by_rows, ctx.passes
        )
        if ctx.by_rows:
            result = as_tables(result, ctx.cell, X, weights)
        return (None,) * 4 + in_order(result, num_taps)


def as_tables(
    result: analytic_backward.Result, cell: str, X: torch.Tensor, weights: Sequence[torch.Tensor]
) -> analytic_backward.Result:
    """The gradients of the rows that ids looked up, as sparse ones of the tables ``W_x``."""
    gradients, ids = list(result.weights), X.reshape(1, -1).long()
    for g, W in enumerate(analytic_backward.Weights.of(cell, weights).x):
        rows = gradients[3 * g]  # W_x comes first among the three of a gate
        gradients[3 * g] = torch.sparse_coo_tensor(ids, rows, W.shape, check_invariants=False)
    return dataclasses.replace(result, weights=tuple(gradients))


def in_order(result: analytic_backward.Result, num_taps: int) -> tuple[Any, ...]:
    """The gradients in the order of what went in."""
    taps = (result.hidden, result.recurrent)[:num_taps]
    return result.X, *taps, *result.state, *result.weights


def looks_up_few(cell: str, X: torch.Tensor, weights: Sequence[torch.Tensor]) -> bool:
    """Whether ``X`` are ids of so few rows that the gradients of ``W_x`` are sparse ones."""
    tables = analytic_backward.Weights.of(cell, weights).x
    return bool(xp.is_integer(X)) and all(by_rows(W, X) for W in tables)


def recur(
    passes: analytic_backward.Passes,
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`.

    Args:
        passes: what carries the cell over time.
        cell: name in `unrolled.functional.bptt.GATES`.
        X: ``(T, B, D)``, or ids ``(T, B)``.
        state: arrays ``(B, H)``.
        weights: in the order of ``CELLS[cell].weights``.
        taps: arrays of zeros for dL/dH_t and D, ``(T, B, H)`` and ``(T, B, G * H)``.
    """
    few, counts = looks_up_few(cell, X, weights), (len(state), len(taps))
    outputs, *last = _Written.apply(  # type: ignore[no-untyped-call]
        passes, cell, counts, few, X, *taps, *state, *weights
    )
    return outputs, tuple(last)
