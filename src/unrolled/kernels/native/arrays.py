"""Arrays as addresses: NumPy's and PyTorch's, without importing either."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from unrolled.kernels.native.interface import PRECISIONS


@cache
def name_of(dtype: Any) -> str:
    """NumPy and PyTorch name the types alike."""
    return str(dtype).removeprefix("torch.")


def type_of(array: Any) -> str:
    """``"float32"``, ``"int64"``, ..."""
    return name_of(array.dtype)


def item_bytes(array: Any) -> int:
    """Of one floating point number."""
    return 8 if type_of(array) == "float64" else 4


def is_tensor(array: Any) -> bool:
    """Whether PyTorch's, else NumPy's."""
    return hasattr(array, "data_ptr")


def precision_of(asked: str, array: Any) -> int:
    """The number of a call's precision: that of its arrays, or bfloat16 for float32 arrays."""
    own = type_of(array)
    if own not in ("float32", "float64") or (asked == "bfloat16" and own != "float32"):
        raise ValueError(f"arrays of {own} for precision '{asked or own}': give float32 or float64")
    return PRECISIONS.index("bfloat16" if asked == "bfloat16" else own)


def address(array: Any, shape: tuple[int, ...], like: Any = None, type: str = "") -> Any:
    """Where an array's numbers start, after a look at its shape, its type and its strides."""
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
