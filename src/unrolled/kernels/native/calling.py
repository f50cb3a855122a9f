"""Fill in and make a call of the native library, with arrays of NumPy or PyTorch as addresses."""

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from unrolled.kernels.native.interface import PRECISIONS
from unrolled.kernels.native.loading import in_use, loaded


@cache
def name_of(dtype: Any) -> str:
    """Return the name of a type, which NumPy and PyTorch spell alike."""
    return str(dtype).removeprefix("torch.")


def type_of(array: Any) -> str:
    """``"float32"``, ``"int64"``, ..."""
    return name_of(array.dtype)


def item_bytes(array: Any) -> int:
    """Return the bytes of one floating point number."""
    return 8 if type_of(array) == "float64" else 4


def is_tensor(array: Any) -> bool:
    """Return whether an array is PyTorch's, not NumPy's."""
    return hasattr(array, "data_ptr")


def precision_of(asked: str, array: Any) -> int:
    """The number of a call's precision: that of its arrays, or bfloat16 for float32 arrays."""
    own = type_of(array)
    if own not in ("float32", "float64") or (asked == "bfloat16" and own != "float32"):
        raise ValueError(f"arrays of {own} for precision '{asked or own}': give float32 or float64")
    return PRECISIONS.index("bfloat16" if asked == "bfloat16" else own)


def address(array: Any, shape: tuple[int, ...], like: Any = None, type: str = "") -> Any:
    """Return where an array's numbers start; check its shape, type and strides."""
    if array is None:
        return None
    type = type or type_of(array if like is None else like)
    tensor = is_tensor(array)
    contiguous = array.is_contiguous() if tensor else array.flags.c_contiguous
    if array.shape != shape or name_of(array.dtype) != type or not contiguous:
        layout = "" if contiguous else ", not contiguous"
        raise ValueError(
            f"expected a contiguous array {shape} of {type}, "
            f"got {tuple(array.shape)} of {type_of(array)}{layout}"
        )
    return array.data_ptr() if tensor else array.__array_interface__["data"][0]


def fill(pointers: Any, addresses: Sequence[int | None]) -> None:
    """Write addresses into a structure's array of pointers."""
    for i, address in enumerate(addresses):
        pointers[i] = address


_scratch = threading.local()


def _workspace(bytes: int) -> int:
    """Scratch memory of this thread. It is kept: new pages at every call would cost more than
    some of the products.
    """
    if bytes > getattr(_scratch, "bytes", 0):
        _scratch.memory, _scratch.bytes = ctypes.create_string_buffer(bytes), bytes
    return ctypes.addressof(_scratch.memory)


def check(error: int) -> None:
    """Raise the error that a function of the library returned, if it did."""
    if error:
        raise ValueError(loaded().unrolled_message(error).decode())


Call = tuple[str, Any, int]
"""A call of the library: its name, its structure, and bytes of scratch memory."""

_recorded: ContextVar[list[Call] | None] = ContextVar("recorded", default=None)


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Collect the calls made inside it in a list instead of making them."""
    calls: list[Call] = []
    token = _recorded.set(calls)
    try:
        yield calls
    finally:
        _recorded.reset(token)


def begin(kind: Any, like: Any, threads: int, precision: str = "", **sizes: Any) -> Any:
    """Make a call with everything but its arrays.

    Args:
        kind: its structure.
        like: one of the arrays.
        threads: how many.
        precision: "" for that of the arrays, or ``"bfloat16"``.
        sizes: further fields.
    """
    return kind(
        precision=precision_of(precision, like),
        instructions=in_use(),
        threads=threads,
        openmp=is_tensor(like),
        **sizes,
    )


def give(call: Any, like: Any, sizes: Mapping[str, int], arrays: Mapping[str, Any]) -> None:
    """Write the addresses of arrays into a call, after a look at each.

    Args:
        call: from `begin`.
        like: an array of the type that all must have.
        sizes: by the letters of the call's ``shapes``.
        arrays: by the names of fields; sequences where there is one for each gate.
    """
    type = type_of(like)
    for name, array in arrays.items():
        shape = tuple([sizes[letter] for letter in call.shapes[name]])
        if isinstance(array, (list, tuple)):
            fill(getattr(call, name), [address(part, shape, type=type) for part in array])
        else:
            setattr(call, name, address(array, shape, type=type))


def run(name: str, call: Any) -> None:
    """Call a function of the library, with the scratch memory that another one says it needs."""
    if call.threads < 1:
        raise ValueError(f"threads={call.threads}: at least 1 is needed")
    bytes = getattr(loaded(), f"{name}_workspace")(ctypes.byref(call))
    recorded = _recorded.get()
    if recorded is not None and bytes >= 0:
        recorded.append((name, call, bytes))
        return
    if bytes > 0:  # below 0 there is none for such sizes, and the function says what is wrong
        call.workspace = _workspace(bytes)
    check(getattr(loaded(), name)(ctypes.byref(call)))
