"""Run MXNet recurrences by the native kernels or its operations, with the analytic gradient.

On CPUs the native kernels compute it, where they are built; else the same passes in
MXNet's own operations.
"""

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
import numpy.typing as npt

from unrolled.backends.mxnet import xp
from unrolled.kernels.analytic_backward import Operations
from unrolled.kernels.native_recurrence import NativeRecurrence, on_host

Arrays = tuple[Any, ...]
Engine = NativeRecurrence | Operations


class _Recurrence(mx.autograd.Function):  # type: ignore[misc]
    """An engine's two passes as one operation."""

    def __init__(self, engine: Engine, cell: str, num_states: int, num_taps: int, ids: Any) -> None:
        super().__init__()
        self.engine, self.cell, self.ids = engine, cell, ids
        self.num_states, self.num_taps = num_states, num_taps

    def forward(self, *arrays: Any) -> Any:
        arrays = arrays[self.num_taps :]
        X, *rest = self._given(arrays if self.ids is None else (self.ids, *arrays))
        self.inputs = X, tuple(rest[: self.num_states]), tuple(rest[self.num_states :])
        self.outputs, last, self.kept = self.engine.forward(self.cell, *self.inputs)
        return tuple(map(self._returned, (self.outputs, *last)))

    def backward(self, *d_results: Any) -> Any:
        # MXNet gives its old arrays
        dY, *d_last = self._given([d.as_np_ndarray() for d in d_results])
        found = self.engine.backward(
            self.cell,
            *self.inputs,
            self.outputs,
            self.kept,
            dY,
            tuple(d_last),
            with_hidden=self.num_taps > 0,
            with_inputs=self.ids is None,
        )
        dX = () if self.ids is not None else (found.X,)
        taps = (found.hidden, found.recurrent)[: self.num_taps]
        gradients = (*taps, *dX, *found.state, *found.weights)
        return tuple(self._returned(gradient).as_nd_ndarray() for gradient in gradients)

    def _given(self, arrays: Sequence[Any]) -> Sequence[Any]:
        return arrays if isinstance(self.engine, Operations) else list(map(_shared, arrays))

    def _returned(self, array: Any) -> Any:
        if isinstance(self.engine, Operations):
            return array
        array = np.ascontiguousarray(array)
        return mx.nd.from_numpy(array, zero_copy=array.size > 0).as_np_ndarray()


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
    return values.astype(np.int64, copy=False) if xp.is_integer(array) else values


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
    kernels = on_host(weights[0].dtype) if weights[0].ctx.device_type == "cpu" else None
    function = _Recurrence(kernels or Operations(xp), cell, len(state), len(taps), ids)
    outputs, *last = function(*inputs)
    return outputs, tuple(last)
