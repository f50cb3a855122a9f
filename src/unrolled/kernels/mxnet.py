"""The fast recurrence for MXNet: an operation of autograd with a gradient of its own.

On CPUs the native kernels compute it, where they are built; else the same passes in
MXNet's own operations.
"""

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
import numpy.typing as npt

from unrolled.backends.mxnet import xp
from unrolled.kernels import analytic_backward
from unrolled.kernels.native_recurrence import NativeRecurrence, on_host

Arrays = tuple[Any, ...]


class _Recurrence(mx.autograd.Function):  # type: ignore[misc]
    """The passes in MXNet's own operations."""

    def __init__(self, cell: str, num_states: int, num_taps: int, ids: Any) -> None:
        super().__init__()
        self.cell, self.num_states, self.num_taps, self.ids = cell, num_states, num_taps, ids

    def forward(self, *arrays: Any) -> Any:
        arrays = arrays[self.num_taps :]
        self.X, *rest = arrays if self.ids is None else (self.ids, *arrays)
        return self.there(tuple(rest[: self.num_states]), rest[self.num_states :])

    def backward(self, *d_results: Any) -> Any:
        dY, *d_last = (d.as_np_ndarray() for d in d_results)  # MXNet gives its old arrays
        found = self.back(dY, tuple(d_last))
        dX = () if self.ids is not None else (found.X,)
        taps = (found.hidden, found.recurrent)[: self.num_taps]
        gradients = (*taps, *dX, *found.state, *found.weights)
        return tuple(gradient.as_nd_ndarray() for gradient in gradients)

    def there(self, state: Arrays, weights: Sequence[Any]) -> Arrays:
        self.weights = weights
        last, self.tape = analytic_backward.forward(xp, self.cell, self.X, state, weights)
        return (self.tape.new[0], *last)

    def back(self, dY: Any, d_last: Arrays) -> analytic_backward.Result:
        return analytic_backward.backward(
            xp, self.cell, self.X, self.weights, self.tape, dY, d_last
        )


class _Native(_Recurrence):
    """The passes in the native kernels, on MXNet's own memory."""

    def __init__(self, compiled: NativeRecurrence, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.compiled = compiled

    def there(self, state: Arrays, weights: Sequence[Any]) -> Arrays:
        X = _shared(self.X)
        X = X if self.ids is None else X.astype(np.int64, copy=False)
        self.inputs = X, _all_shared(state), _all_shared(weights)
        self.outputs, last, self.kept = self.compiled.forward(self.cell, *self.inputs)
        return tuple(map(_returned, (self.outputs, *last)))

    def back(self, dY: Any, d_last: Arrays) -> analytic_backward.Result:
        found = self.compiled.backward(
            self.cell,
            *self.inputs,
            self.outputs,
            self.kept,
            _shared(dY),
            _all_shared(d_last),
            with_hidden=self.num_taps > 0,
            with_inputs=self.ids is None,
        )
        return found.map(_returned)


class _Readable:
    """An array of MXNet 1.9 in the protocol by which arrays share memory today."""

    def __init__(self, array: Any) -> None:
        self.array = array.as_nd_ndarray()

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.array.to_dlpack_for_read()  # waits until the array is computed

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU


def _shared(array: Any) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = np.from_dlpack(_Readable(array))
    return values


def _all_shared(arrays: Sequence[Any]) -> tuple[npt.NDArray[Any], ...]:
    return tuple(map(_shared, arrays))


def _returned(array: npt.NDArray[Any]) -> Any:
    array = np.ascontiguousarray(array)
    return mx.nd.from_numpy(array, zero_copy=array.size > 0).as_np_ndarray()


def recur(
    cell: str, X: Any, state: Arrays, weights: Sequence[Any], taps: Arrays = ()
) -> tuple[Any, Arrays]:
    """See `unrolled.kernels.recur`."""
    ids = X if xp.is_integer(X) else None
    # MXNet stops handing gradients out at the first input that wants none: each must want one
    anchor = mx.np.zeros((), dtype=weights[0].dtype)
    anchor.attach_grad()
    inputs = (*taps, *(() if ids is not None else (X,)), *state, *weights)
    inputs = tuple(x if x.grad is not None else x + anchor for x in inputs)
    compiled = on_host(weights[0].dtype) if weights[0].ctx.device_type == "cpu" else None
    arguments = (cell, len(state), len(taps), ids)
    function = _Native(compiled, *arguments) if compiled else _Recurrence(*arguments)
    outputs, *last = function(*inputs)
    return outputs, tuple(last)
