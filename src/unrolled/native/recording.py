"""Write native calls down as bytes, for JAX's compiler, whose operations make them later.

The functions of this package want arrays. They get stand-ins here: memory of the right size
that nobody touches, so the system never really hands it out.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.native.calls import recording

RECORDABLE = ("unrolled_forward", "unrolled_backward", "unrolled_product")
"""Of the library, those that a call can be written down of."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recorded:
    """A call without its addresses.

    Attributes:
        function: of the library, ``"unrolled_forward"``.
        call: the bytes of its structure, eight to an integer, all pointers null: the same call
            is the same bytes.
        places: three numbers for each pointer: where in the structure it stands, in bytes; the
            number of the array that it points to; how far into that, in bytes.
        workspace: bytes of scratch memory, the array after the last.
    """

    function: str
    call: Ints
    places: Ints
    workspace: int


def record(function: Callable[[], Any], arrays: Sequence[npt.NDArray[Any]]) -> Recorded:
    """What a function asks of the library, in the one call that it makes."""
    with recording() as calls:
        function()
    ((name, call, workspace),) = calls
    starts = [(array.ctypes.data, array.nbytes) for array in arrays]
    structure = np.frombuffer(bytearray(call), np.int64)
    places = []
    for field, pointer in _pointers(call):
        structure[field // structure.itemsize] = 0
        places += [
            (field, number, pointer - start)
            for number, (start, size) in enumerate(starts)
            if start <= pointer < start + size
        ]
    if workspace:
        places.append((type(call).workspace.offset, len(arrays), 0))
    return Recorded(name, structure, np.array(places, np.int64).ravel(), workspace)


def _pointers(call: ctypes.Structure) -> Iterator[tuple[int, int]]:
    """The pointers of a structure that are not null, each with its offset in bytes."""
    for name, kind in (field[:2] for field in call._fields_):
        value, offset = getattr(call, name), getattr(type(call), name).offset
        if kind is ctypes.c_void_p:
            values = [value]
        else:
            values = list(value) if issubclass(kind, ctypes.Array) else []
        for i, pointer in enumerate(values):
            if pointer:
                yield offset + i * ctypes.sizeof(ctypes.c_void_p), pointer
