"""The array namespace: the few operations that the formulas need, as one table.

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
        exp, log, sqrt, tanh, sigmoid, abs: elementwise, ``f(x)``.
        maximum: elementwise, ``f(x, y)``.
        sum, mean, amax: ``f(x, axis=None, keepdims=False)``.
        reshape: ``f(x, shape)``.
        transpose: ``f(x)``, the two axes of a matrix exchanged.
        zeros_like: ``f(x)``, same shape, type and device.
        take: ``f(W, ids)``, rows ``W[ids]`` of shape ``(*ids.shape, W.shape[1])``.
        pick: ``f(x, ids)``, ``x[n, ids[n]]`` for ``x`` of ``(N, V)`` and ids ``(N,)``.
        one_hot: ``f(ids, depth)``, float32 ``(*ids.shape, depth)``.
        is_integer: ``f(x)``, whether the array holds integers.
        stop_gradient: ``f(x)``, the same values, constant to differentiation.
        scan: ``f(step, state, inputs)``: ``step(state, inputs[t]) -> (state, output_t)``
            for each ``t`` along the first axis of an array, or of every array of a
            tuple; returns the stacked outputs and the last state.
    """

    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    sqrt: Callable[[Array], Array]
    tanh: Callable[[Array], Array]
    sigmoid: Callable[[Array], Array]
    abs: Callable[[Array], Array]
    maximum: Callable[[Array, Array], Array]
    sum: Callable[..., Array]
    mean: Callable[..., Array]
    amax: Callable[..., Array]
    reshape: Callable[[Array, tuple[int, ...]], Array]
    transpose: Callable[[Array], Array]
    zeros_like: Callable[[Array], Array]
    take: Callable[[Array, Array], Array]
    pick: Callable[[Array, Array], Array]
    one_hot: Callable[[Array, int], Array]
    is_integer: Callable[[Array], bool]
    stop_gradient: Callable[[Array], Array]
    scan: Callable[[Step, Any, Any], tuple[Array, Any]]


def python_scan(
    stack: Callable[[list[Array]], Array], unstack: Callable[[Array], Iterable[Array]] = iter
) -> Callable[[Step, Any, Any], tuple[Array, Any]]:
    """The loop over time for frameworks that have no scan of their own.

    Args:
        stack: joins the outputs of all steps along a new first axis.
        unstack: splits an array along its first axis.

    Returns:
        A function as ``Namespace.scan``.

    Example:
        >>> import numpy as np
        >>> running_sum = lambda total, x: (total + x, total + x)
        >>> python_scan(np.stack)(running_sum, 0.0, np.array([1.0, 2.0, 3.0]))[0]
        array([1., 3., 6.])
    """

    def scan(step: Step, state: Any, inputs: Any) -> tuple[Array, Any]:
        steps: Iterable[Any] = (
            zip(*map(unstack, inputs), strict=True)
            if isinstance(inputs, tuple)
            else unstack(inputs)
        )
        outputs = []
        for input_t in steps:
            state, output = step(state, input_t)
            outputs.append(output)
        return stack(outputs), state

    return scan
