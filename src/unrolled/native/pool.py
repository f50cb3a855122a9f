"""`empty` makes large NumPy arrays from a memory pool, so that pages are not asked for anew.

The system hands large blocks out page by page and takes them back when they are freed, so
a program that makes the same arrays at every training step pays for every page at every
step. That can cost as much as the arithmetic. Here a block that is given back waits for
the next array of its size.
"""

import math
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST_BYTES = 2**18
"""Smaller arrays are left to NumPy, whose memory stays with the process anyway."""

LARGEST_POOL_BYTES = 2**30
"""What may wait at most; a block that comes back to a full pool goes to the system."""

_waiting: dict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)

_lent: dict[int, tuple[weakref.ref[Any], npt.NDArray[np.uint8]]] = {}
"""The blocks in use, and by the ids of these what tells when one is no longer."""


class _Lease(np.ndarray):
    """A view of a block. NumPy's own arrays know no weak references; a subclass does."""


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[np.generic]:
    """An array of this shape, its values undefined, aligned to 64 bytes.

    Its memory waits for the next such array as soon as nothing refers to it, be it NumPy
    or a framework that shares the memory.

    Example:
        >>> first = empty((512, 512))
        >>> place = first.ctypes.data
        >>> del first
        >>> empty((512, 512)).ctypes.data == place
        True
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALLEST_BYTES:
        return np.empty(shape, dtype)
    waiting = _waiting[size]
    block = waiting.pop() if waiting else _aligned(size)
    lease = block.view(_Lease)
    ref = weakref.ref(lease, _take_back)
    _lent[id(ref)] = ref, block
    return lease.view(dtype).reshape(shape)


def _aligned(size: int) -> npt.NDArray[np.uint8]:
    block = np.empty(size + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + size]


def _take_back(lease: weakref.ref[Any]) -> None:
    _, block = _lent.pop(id(lease))
    waiting = block.size
    for size, blocks in list(_waiting.items()):  # at once: other threads may add sizes
        waiting += size * len(blocks)
    if waiting <= LARGEST_POOL_BYTES:
        _waiting[block.size].append(block)
