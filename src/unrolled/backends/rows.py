"""Sparse embedding gradients: the rows of a table that a minibatch looked up, and no others.

With 50,000 tokens and 512 hidden units a table ``W_xh`` takes 100 MB. A minibatch of 1,120
tokens looks up 1,120 of its rows at most, 2 MB, and all others have gradient zero: a step of
plain SGD leaves them where they are. So time and memory of a step need not grow with the
vocabulary. It takes two things: gradients that hold only such rows, in the framework's own
form (PyTorch's sparse tensors), and a copy of the last good weights that holds only what the
step moves (`SparseRows`).

Code that differentiates by itself gets whole gradients: rows come inside ``with
row_gradients(True)`` only, and the trainer asks for them only where everything that follows
can deal with them, see `unrolled.torch.sparse_gradients`.
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


asked: ContextVar[bool] = ContextVar("row_gradients", default=False)
"""True where gradients may be sparse: only the rows of a table that were looked up."""


@contextmanager
def row_gradients(allowed: bool) -> Iterator[None]:
    """Set `asked` inside a ``with`` block."""
    token = asked.set(allowed)
    try:
        yield
    finally:
        asked.reset(token)
