"""Sparse embedding gradients: the rows of a table that a minibatch looked up, and no others.

With 50,000 tokens and 512 hidden units a table ``W_xh`` takes 100 MB. A minibatch of 1,120
tokens looks up 1,120 of its rows at most, 2 MB, and all others have gradient zero: a step of
plain SGD leaves them where they are. So time and memory of a step need not grow with the
vocabulary. It takes two things: gradients that hold only such rows, in the framework's own
form (PyTorch's sparse tensors), and a copy of the last good weights that holds only what the
step moves (`SparseRows`).

Code that differentiates by itself gets whole gradients: rows come inside ``with
row_gradients(True)`` only, and the trainer asks for them only where everything that follows
can deal with them, see `unrolled.training.rows`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from unrolled.backends.namespace import Array

FEW = 2
"""A table has few rows looked up if it has more than this many times as many as there are ids.

Below that, a gradient of the whole table costs no more than sorting the ids.
"""

MANY = 1024
"""Rows of a table from which on that matters: small ones keep the gradients that readers expect."""


@dataclass(frozen=True)
class SparseRows:
    """Some rows of a table.

    Attributes:
        ids: which, each once, ``(U,)``.
        values: the rows, ``(U, H)``.
    """

    ids: Array
    values: Array


_asked: ContextVar[bool] = ContextVar("row_gradients", default=False)


@contextmanager
def row_gradients(asked: bool) -> Iterator[None]:
    """Whether gradients of tables with few rows looked up inside may hold only those rows."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def few_rows(num_rows: int, num_ids: int) -> bool:
    """Whether a gradient of rows is asked for, and worth it for a table of ``num_rows``.

    Example:
        >>> few_rows(50_000, 1120)
        False
        >>> with row_gradients(True):
        ...     few_rows(50_000, 1120), few_rows(2_000, 1120), few_rows(28, 7)
        (True, False, False)
    """
    return _asked.get() and num_rows >= MANY and num_rows > FEW * num_ids
