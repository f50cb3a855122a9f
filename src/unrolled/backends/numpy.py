"""Array operations in NumPy, without gradients.

For examples, for tests against independent numbers, and for reading. It is no backend:
NumPy differentiates nothing, so nothing trains on it.
"""

from typing import Any

import numpy as np

from unrolled.backends.namespace import Namespace, python_scan


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # never overflows, unlike 1 / (1 + e^-x)


def _add_rows(rows: Any, ids: Any, V: int) -> Any:
    total = np.zeros((V, rows.shape[1]), rows.dtype)
    np.add.at(total, ids, rows)
    return total


xp = Namespace(
    exp=np.exp,
    log=np.log,
    sqrt=np.sqrt,
    tanh=np.tanh,
    sigmoid=_sigmoid,
    abs=np.abs,
    sign=np.sign,
    maximum=np.maximum,
    sum=np.sum,
    mean=np.mean,
    amax=np.max,
    sum_squares=lambda x: np.sum(x * x),
    reshape=np.reshape,
    transpose=lambda x: np.swapaxes(x, 0, 1),
    gram=lambda x: x @ np.swapaxes(x, 1, 2),
    concat=np.concatenate,
    stack=np.stack,
    unstack=iter,
    flip=lambda x: x[::-1],
    zeros_like=np.zeros_like,
    take=lambda W, ids: W[ids],
    add_rows=_add_rows,
    pick=lambda x, ids: np.take_along_axis(x, ids[:, None], axis=1)[:, 0],
    argmax=lambda x: np.argmax(x, -1),
    count_above=lambda x, least: np.sum(x > least, dtype=np.float32),
    one_hot=lambda ids, depth: np.eye(depth, dtype=np.float32)[ids],
    is_integer=lambda x: np.issubdtype(x.dtype, np.integer),
    stop_gradient=lambda x: x,
    scan=python_scan(np.stack),
)
