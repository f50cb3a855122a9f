"""The native kernels: recurrent layers on CPUs, compiled from the C++ beside this file.

The library knows no framework and no Python: it gets addresses. So the arguments below are
NumPy arrays or CPU tensors of PyTorch, contiguous, all of one type; the caller makes those
that are written. While a call runs, the interpreter is free for other threads; the call
has as many threads as it is told to: PyTorch's for tensors, else it starts and ends its own.
A compiler that makes calls itself, as JAX's does, gets them written down (``recording.py``) and
makes them through ``xla.cpp``.

Whoever wants to read the kernels may start with ``recurrence.h`` (a layer over time), then
``tile.h`` (why a product runs near the machine's limit) and ``rnn.h`` (a cell's formula).

Letters: T steps, B batch, H hidden units, G gates, V vocabulary. Stacked gates stand in the
order of `unrolled.functional.recurrent`: RNN h; GRU z, r, h; LSTM i, f, o, c.

Which instructions are used is the best that the CPU has; ``UNROLLED_NATIVE`` in the environment
may ask for less: ``avx512``, ``avx2``, ``portable``, or ``off`` for none of this.
"""

from unrolled.native.calls import (
    backward,
    call,
    forward,
    layer_numbers,
    norms,
    product,
    product_sizes,
    recurrence_sizes,
    shapes,
)
from unrolled.native.interface import CELLS
from unrolled.native.loading import available, describe, using
from unrolled.native.text import Reader, Reading

__all__ = [
    "CELLS",
    "Reader",
    "Reading",
    "available",
    "backward",
    "call",
    "describe",
    "forward",
    "layer_numbers",
    "norms",
    "product",
    "product_sizes",
    "recurrence_sizes",
    "shapes",
    "using",
]
