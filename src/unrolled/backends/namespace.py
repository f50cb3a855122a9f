"""`Namespace`: the array operations that the formulas use, as one table of functions.

Operators (``+ - * / @ **``, comparisons, slices) come from the arrays themselves; the
table holds the rest, with one signature for every framework. A backend writes its own
table out in ``backends/<framework>.py``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Array = Any
"""An array of the framework at hand; shapes stand in the docstrings."""

Step = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Namespace:
    """Array operations of one framework, every one differentiable where it makes sense.

    Attributes:
        exp, log, sqrt, tanh, sigmoid, abs, sign: elementwise, ``f(x)``.
        maximum: elementwise, ``f(x, y)``.
        sum, mean, amax: ``f(x, axis=None, keepdims=False)``.
        sum_squares: ``f(x)``, the sum of the squares of all values.
        reshape: ``f(x, shape)``.
        transpose: ``f(x)``, the first two axes exchanged.
        gram: ``f(x)``, inner products of the rows of every matrix: ``(T, B, B)`` from
            ``x`` of ``(T, B, H)``.
        concat: ``f(arrays, axis)``, joined along an axis that is there.
        stack: ``f(arrays)``, joined along a new first axis.
        unstack: ``f(x)``, its parts along the first axis, to iterate over.
        flip: ``f(x)``, in reverse order along the first axis.
        zeros_like: ``f(x)``, same shape, type and device.
        take: ``f(W, ids)``, rows ``W[ids]`` of shape ``(*ids.shape, W.shape[1])``.
        add_rows: ``f(rows, ids, V)``, for each id the sum of its rows: ``(V, D)`` from rows
            ``(N, D)`` and ids ``(N,)``; what the gradient of ``take`` does.
        pick: ``f(x, ids)``, ``x[n, ids[n]]`` for ``x`` of ``(N, V)`` and ids ``(N,)``.
        argmax: ``f(x)``, integers: where along the last axis the first of the largest is.
        count_above: ``f(x, least)``, how many entries are above a number, float32.
        one_hot: ``f(ids, depth)``, float32 ``(*ids.shape, depth)``.
        is_integer: ``f(x)``, whether the array holds integers.
        stop_gradient: ``f(x)``, the same values, constant to differentiation.
        scan: ``f(step, state, inputs, reverse=False)``: ``step(state, inputs[t]) ->
            (state, output_t)`` for each ``t`` along the first axis of an array, or of every
            array of a tuple; returns the stacked outputs (of a tuple: each) and the last
            state. In reverse it begins with the last ``t``; the outputs keep the inputs' order.
        cross_entropy: ``f(logits, targets)``, the loss of that name in one operation, without
            copies of many logits; None where the formula is all there is.
        row_norms: ``f(x)``, L2 norms along the last axis, whose squares neither overflow nor
            become 0; None where there is no such operation.
        norms: ``f(arrays, minus=())``, ``||a||`` of each or ``||a - b||``, as one vector, in
            one pass; None, or gives None, where the formula is all there is.
        layer_numbers: likewise, see `unrolled.telemetry.through_time.layer_numbers`.
        clip_together: ``f(arrays, theta)``, likewise: the arrays clipped by their global norm,
            that norm before, and after it.
    """

    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    sqrt: Callable[[Array], Array]
    tanh: Callable[[Array], Array]
    sigmoid: Callable[[Array], Array]
    abs: Callable[[Array], Array]
    sign: Callable[[Array], Array]
    maximum: Callable[[Array, Array], Array]
    sum: Callable[..., Array]
    mean: Callable[..., Array]
    amax: Callable[..., Array]
    sum_squares: Callable[[Array], Array]
    reshape: Callable[[Array, tuple[int, ...]], Array]
    transpose: Callable[[Array], Array]
    gram: Callable[[Array], Array]
    concat: Callable[[list[Array], int], Array]
    stack: Callable[[list[Array]], Array]
    unstack: Callable[[Array], Iterable[Array]]
    flip: Callable[[Array], Array]
    zeros_like: Callable[[Array], Array]
    take: Callable[[Array, Array], Array]
    add_rows: Callable[[Array, Array, int], Array]
    pick: Callable[[Array, Array], Array]
    argmax: Callable[[Array], Array]
    count_above: Callable[[Array, float], Array]
    one_hot: Callable[[Array, int], Array]
    is_integer: Callable[[Array], bool]
    stop_gradient: Callable[[Array], Array]
    scan: Callable[..., tuple[Any, Any]]
    cross_entropy: Callable[[Array, Array], Array] | None = None
    row_norms: Callable[[Array], Array] | None = None
    norms: Callable[..., Array | None] | None = None
    layer_numbers: Callable[..., Array | None] | None = None
    clip_together: Callable[..., tuple[list[Array], Array, Array] | None] | None = None


def python_scan(
    stack: Callable[[list[Array]], Array], unstack: Callable[[Array], Iterable[Array]] = iter
) -> Callable[..., tuple[Any, Any]]:
    """The loop over time for frameworks that have no scan of their own."""

    def scan(step: Step, state: Any, inputs: Any, reverse: bool = False) -> tuple[Any, Any]:
        order = reversed if reverse else iter
        steps: list[Any] = (
            list(zip(*map(unstack, inputs), strict=True))
            if isinstance(inputs, tuple)
            else list(unstack(inputs))
        )
        outputs = []
        for input_t in order(steps):
            state, output = step(state, input_t)
            outputs.append(output)
        outputs = list(order(outputs))
        if isinstance(outputs[0], tuple):
            return tuple(stack(list(parts)) for parts in zip(*outputs, strict=True)), state
        return stack(outputs), state

    return scan
