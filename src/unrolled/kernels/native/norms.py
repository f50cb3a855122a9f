"""Call the native kernels for norms of arrays and for the numbers of a traced layer."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from unrolled.kernels.native.arrays import address, is_tensor, precision_of, type_of
from unrolled.kernels.native.interface import LayerNumbers, Norms
from unrolled.kernels.native.loading import instructions_of, run


def norms(
    arrays: Sequence[Any],
    out: Any,
    minus: Sequence[Any] = (),
    *,
    threads: int = 1,
    instructions: str = "",
) -> None:
    """L2 norms of arrays, or of differences ``||a - b||``; squares summed in float64.

    Args:
        arrays: contiguous, of any shapes, all of one type; at least one.
        out: written, ``(len(arrays),)``, float64.
        minus: none, or as many arrays of the same shapes.
        threads, instructions: as in `unrolled.kernels.native.forward`.

    Raises:
        ValueError: an array of another type or shape, or not contiguous.
    """
    count, call, like = len(arrays), Norms(), arrays[0] if arrays else out
    _set(call, like, threads, instructions)
    table, type = ctypes.c_void_p * count, type_of(like)
    a = table(*[address(x, x.shape, type=type) for x in arrays])
    sizes = (ctypes.c_int64 * count)(*[math.prod(x.shape) for x in arrays])
    pairs = zip(arrays, minus, strict=True) if minus else ()
    b = table(*[address(y, x.shape, type=type) for x, y in pairs])
    call.count, call.a, call.sizes = count, ctypes.addressof(a), ctypes.addressof(sizes)
    call.b = ctypes.addressof(b) if minus else None
    call.norms = address(out, (count,), type="float64")
    run("unrolled_norms", call, "unrolled_norms_workspace")


def layer_numbers(
    dH: Any,
    D: Any,
    after: Any,
    out: Any,
    *,
    limit: float,
    relu: bool = False,
    before: Any = None,
    first: Any = None,
    threads: int = 1,
    instructions: str = "",
) -> None:
    """The numbers of `unrolled.telemetry.through_time.layer_numbers`.

    Args:
        dH: total gradient of every hidden state, ``(T, B, H)``.
        D: gradient at the recurrent products, ``(T, B, G H)``.
        after: hidden states, ``(T, B, H)``.
        out: written, ``(3 T + 1,)``.
        limit: a unit is saturated if ``|h|`` is above it; a ReLU's is unless ``h`` is.
        relu: whether the units are ReLU's.
        before: hidden states before every step, ``(T, B, H)``; by default ``first``, followed
            by all of ``after`` but the last.
        first: the state before the first step, ``(B, H)``; zeros by default.
        threads, instructions: as in `unrolled.kernels.native.forward`.

    Raises:
        ValueError: an array of another shape or type, or not contiguous.
    """
    T, B, H = after.shape
    call = LayerNumbers()
    _set(call, after, threads, instructions)
    call.T, call.B, call.H, call.G = T, B, H, D.shape[-1] // H
    call.limit, call.relu = limit, relu
    call.dH, call.after = (address(x, (T, B, H), like=after) for x in (dH, after))
    call.D = address(D, (T, B, call.G * H), like=after)
    call.before = address(before, (T, B, H), like=after)
    call.first = address(first, (B, H), like=after)
    call.numbers = address(out, (3 * T + 1,), like=after)
    run("unrolled_layer_numbers", call, "unrolled_layer_numbers_workspace")


def _set(call: Any, like: Any, threads: int, instructions: str) -> None:
    call.precision, call.openmp = precision_of("", like), is_tensor(like)
    call.instructions, call.threads = instructions_of(instructions), threads
