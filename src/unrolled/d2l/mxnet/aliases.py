"""*Dive into Deep Learning*'s names for MXNet's functions: ``d2l.matmul``, ``d2l.ones``."""

from typing import Any

import mxnet as mx

from unrolled.backends import mxnet as backend

arange, ones, zeros, tensor = mx.np.arange, mx.np.ones, mx.np.zeros, mx.np.array
normal, randn = mx.np.random.normal, mx.np.random.randn
exp, sin, tanh, sigmoid = mx.np.exp, mx.np.sin, mx.np.tanh, mx.npx.sigmoid
matmul, concat, stack = mx.np.dot, mx.np.concatenate, mx.np.stack
reduce_mean, argmax = mx.np.mean, mx.np.argmax
transpose, swapaxes = mx.np.transpose, mx.np.swapaxes
float32, int32, int64 = mx.np.float32, mx.np.int32, mx.np.int64
numpy, to = backend.to_numpy, backend.to_device


def reshape(x: Any, *shape: Any) -> Any:
    """``x.reshape(*shape)``."""
    return x.reshape(*shape)


def size(x: Any) -> int:
    """How many numbers there are."""
    return int(x.size)
