"""Call the native kernels for norms of arrays and for the numbers of a traced layer."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from unrolled.kernels.native.arrays import address, type_of
from unrolled.kernels.native.interface import LayerNumbers, Norms
from unrolled.kernels.native.loading import begin, give, run


def norms(arrays: Sequence[Any], out: Any, minus: Sequence[Any] = (), *, threads: int = 1) -> None:
    """L2 norms of arrays, or of differences ``||a - b||``; squares summed in float64.

    Args:
        arrays: contiguous, of any shapes, all of one type; at least one.
        out: written, ``(len(arrays),)``, float64.
        minus: none, or as many arrays of the same shapes.
        threads: as in `unrolled.kernels.native.forward`.

    Raises:
        ValueError: an array of another type or shape, or not contiguous.
    """
    count, like = len(arrays), arrays[0] if arrays else out
    call = begin(Norms, like, threads, count=count)
    table, type = ctypes.c_void_p * count, type_of(like)
    a = table(*[address(x, x.shape, type=type) for x in arrays])
    sizes = (ctypes.c_int64 * count)(*[math.prod(x.shape) for x in arrays])
    pairs = zip(arrays, minus, strict=True) if minus else ()
    b = table(*[address(y, x.shape, type=type) for x, y in pairs])
    call.a, call.sizes = ctypes.addressof(a), ctypes.addressof(sizes)
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
        threads: as in `unrolled.kernels.native.forward`.

    Raises:
        ValueError: an array of another shape or type, or not contiguous.
    """
    (T, B, H), G = after.shape, D.shape[-1] // after.shape[-1]
    call = begin(LayerNumbers, after, threads, T=T, B=B, H=H, G=G, limit=limit, relu=relu)
    sizes = {"T": T, "B": B, "H": H, "GH": G * H, "3T+1": 3 * T + 1}
    arrays = {"dH": dH, "D": D, "after": after, "before": before, "first": first, "numbers": out}
    give(call, after, sizes, arrays)
    run("unrolled_layer_numbers", call, "unrolled_layer_numbers_workspace")
