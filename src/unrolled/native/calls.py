"""The native kernels as functions of arrays: recurrent layers, products, norms.

``interface.h`` says of every array what it holds and what it is when left out; the types and
shapes are in ``interface.py``. Where gates have arrays of their own, sequences of G are given.
"""

import ctypes
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from unrolled.errors import did_you_mean
from unrolled.native.interface import (
    CELLS,
    PRECISIONS,
    AffineGradients,
    LayerNumbers,
    Norms,
    Product,
    Recurrence,
)
from unrolled.native.loading import in_use, loaded


def forward(
    cell: str,
    inputs: Any | Sequence[Any],
    W_h: Sequence[Any],
    outputs: Any,
    *,
    ids: Any = None,
    precision: str = "",
    threads: int = 1,
    **arrays: Any,
) -> None:
    """Carry a cell over all steps.

    Args:
        cell: ``"rnn"``, ``"rnn_relu"``, ``"gru"`` (reset after the product) or ``"lstm"``.
        inputs: what the input contributes, ``X_t W_x``: one array ``(T, B, G H)``, or with
            ``ids`` the weights ``W_x`` themselves, G arrays ``(V, H)``, whose rows are
            looked up inside the step.
        W_h: G arrays ``(H, H)``.
        outputs: written, hidden states ``(T, B, H)``.
        ids: ``(T, B)``, int64.
        precision: that of the arrays by default; ``"bfloat16"`` takes float32 arrays and
            multiplies in bfloat16 with sums in float32.
        threads: from 1 up.
        arrays: ``biases``, ``b_hh``, ``h0``, ``c0``, and what is written beside the outputs:
            ``cells``, which the LSTM needs, and ``gates``, which `backward` needs.

    Raises:
        ValueError: an array of another shape or type, not contiguous, or an id out of range.
    """
    call, sizes, type = _begin_recurrence(cell, W_h, outputs, precision, threads)
    T, B, H, GH = sizes["T"], sizes["B"], sizes["H"], sizes["GH"]
    if ids is None:
        first, gate = address(inputs, (T, B, GH), type), H * outputs.dtype.itemsize
        for g in range(len(W_h)):
            call.inputs[g] = first + g * gate
        call.input_stride = GH
    else:
        call.V, call.input_stride = inputs[0].shape[0], H
        for g, W in enumerate(inputs):
            call.inputs[g] = address(W, (call.V, H), type)
        call.ids = address(ids, (T, B), "int64")
    fill(call, type, sizes, arrays)
    run("unrolled_forward", call)


def backward(
    cell: str,
    W_h: Sequence[Any],
    outputs: Any,
    D: Any,
    *,
    dW_x: Sequence[Any] = (),
    ids: Any = None,
    precision: str = "",
    threads: int = 1,
    **arrays: Any,
) -> None:
    """Gradients through time, given those of a loss with respect to the outputs.

    Args:
        cell, W_h, outputs: as given to and written by `forward`.
        D: written, ``(T, B, G H)``, gradient at the recurrent product ``H_{t-1} W_h`` of each
            step. For the LSTM it may be the array ``gates`` itself, which is then gone.
        dW_x: written if given, G arrays ``(V, H)``, of the rows that were looked up.
        ids: ``(T, B)``, int64, what `forward` looked up; needed for ``dW_x``.
        precision, threads: as given to `forward`.
        arrays: ``h0``, ``c0``, ``cells``, ``gates`` as for `forward`; the gradients ``d_outputs``,
            ``d_h`` and ``d_c`` of the last states; and what is written if given: ``dA``, which
            the GRU needs, ``dH``, ``d_h0``, ``d_c0``, ``dW_h``, ``db``, ``db_hh``.

    Raises:
        ValueError: as `forward`.
    """
    call, sizes, type = _begin_recurrence(cell, W_h, outputs, precision, threads)
    if dW_x:
        call.V = sizes["V"] = dW_x[0].shape[0]
        call.ids = address(ids, (sizes["T"], sizes["B"]), "int64")
        arrays["dW_x"] = dW_x
    fill(call, type, sizes, {"D": D, **arrays})
    run("unrolled_backward", call)


def _begin_recurrence(
    cell: str, W_h: Sequence[Any], outputs: Any, precision: str, threads: int
) -> tuple[Any, dict[str, int], str]:
    """The call with what forward and backward have in common, the arrays' sizes and their type."""
    if cell not in CELLS:
        raise ValueError(f"unknown cell '{cell}': {did_you_mean(cell, CELLS)}")
    (T, B, H), G = outputs.shape, CELLS[cell]
    if len(W_h) != G:
        raise ValueError(f"{cell} has {G} recurrent weights, not {len(W_h)}")
    call, type = begin(Recurrence, outputs, threads, precision, T=T, B=B, H=H)
    call.cell = [*CELLS].index(cell)
    sizes = {"T": T, "B": B, "H": H, "4H": 4 * H, "GH": G * H}
    fill(call, type, sizes, {"W_h": W_h, "outputs": outputs})
    return call, sizes, type


def product(
    A: Any,
    B: Any,
    C: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Any = None,
    accumulate: bool = False,
    precision: str = "",
    threads: int = 1,
) -> None:
    """Matrix product ``C = A B``, ``C = A B + bias``, or with ``accumulate`` ``C += A B``.

    Args:
        A: ``(M, K)``, or ``(K, M)`` with ``transpose_a``.
        B: ``(K, N)``, or ``(N, K)`` with ``transpose_b``.
        C: written, ``(M, N)``.
        transpose_a, transpose_b: use the transpose of what is given.
        bias: ``(N,)``, added to every row.
        accumulate: add to what stands in ``C``; not with ``bias``.
        precision, threads: as in `forward`.

    Example:
        >>> import numpy as np
        >>> from unrolled.native import available
        >>> A, B, C = np.eye(3) * 2, np.ones((3, 4)), np.empty((3, 4))
        >>> if available()[0]:
        ...     product(A, B, C)
        ... else:
        ...     C[:] = A @ B
        >>> C[0]
        array([2., 2., 2., 2.])
    """
    M, N = C.shape
    K = A.shape[0] if transpose_a else A.shape[1]
    call, type = begin(Product, C, threads, precision, M=M, N=N, K=K)
    call.transpose_a, call.transpose_b, call.groups = transpose_a, transpose_b, 1
    call.accumulate = accumulate
    call.A = address(A, (K, M) if transpose_a else (M, K), type)
    call.A_stride, call.B_stride, call.C_stride = A.shape[1], B.shape[1], N
    call.B[0] = address(B, (N, K) if transpose_b else (K, N), type)
    call.bias = None if bias is None else address(bias, (N,), type)
    call.C[0] = address(C, (M, N), type)
    run("unrolled_product", call)


def affine_backward(
    X: Any,
    W: Any,
    dY: Any,
    dX: Any,
    dW: Any,
    db: Any,
    *,
    precision: str = "",
    threads: int = 1,
) -> None:
    """The backward pass through ``Y = X W + b``.

    Args:
        X: ``(N, D)``.
        W: ``(D, V)``.
        dY: gradient of the loss, ``(N, V)``.
        dX, dW, db: written, of the shapes of ``X``, ``W`` and ``(V,)``: ``dY W^T``, ``X^T dY``,
            and the sum of ``dY`` over its rows.
        precision, threads: as in `forward`.
    """
    sizes = {"N": X.shape[0], "D": X.shape[1], "V": W.shape[1]}
    call, type = begin(AffineGradients, X, threads, precision, **sizes)
    fill(call, type, sizes, {"X": X, "W": W, "dY": dY, "dX": dX, "dW": dW, "db": db})
    run("unrolled_affine_backward", call)


def norms(arrays: Sequence[Any], out: Any, minus: Sequence[Any] = (), *, threads: int = 1) -> None:
    """L2 norms of arrays, or of differences ``||a - b||``; squares summed in float64.

    Args:
        arrays: contiguous, of any shapes, all of one type; at least one.
        out: written, ``(len(arrays),)``, float64.
        minus: none, or as many arrays of the same shapes.
        threads: as in `unrolled.native.forward`.

    Raises:
        ValueError: an array of another type or shape, or not contiguous.
    """
    count, pointers = len(arrays), ctypes.c_void_p * len(arrays)
    call, type = begin(Norms, arrays[0] if arrays else out, threads, count=count)
    a, b, sizes = pointers(), pointers(), (ctypes.c_int64 * count)()
    for i, x in enumerate(arrays):
        a[i], sizes[i] = address(x, x.shape, type), math.prod(x.shape)
        if minus:
            b[i] = address(minus[i], x.shape, type)
    call.a, call.sizes = ctypes.addressof(a), ctypes.addressof(sizes)
    call.b = ctypes.addressof(b) if minus else None
    call.norms = address(out, (count,), "float64")
    run("unrolled_norms", call)


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
        threads: as in `unrolled.native.forward`.

    Raises:
        ValueError: an array of another shape or type, or not contiguous.
    """
    (T, B, H), G = after.shape, D.shape[-1] // after.shape[-1]
    call, type = begin(LayerNumbers, after, threads, T=T, B=B, H=H, G=G, limit=limit, relu=relu)
    sizes = {"T": T, "B": B, "H": H, "GH": G * H, "3T+1": 3 * T + 1}
    arrays = {"dH": dH, "D": D, "after": after, "before": before, "first": first, "numbers": out}
    fill(call, type, sizes, arrays)
    run("unrolled_layer_numbers", call)


@cache
def name_of(dtype: Any) -> str:
    """The name of a type, which NumPy and PyTorch spell alike: ``"float32"``, ``"int64"``."""
    return str(dtype).removeprefix("torch.")


def precision_of(asked: str, type: str) -> int:
    """The number of a call's precision: that of its arrays, or bfloat16 for float32 arrays."""
    if type not in ("float32", "float64") or (asked == "bfloat16" and type != "float32"):
        raise ValueError(
            f"arrays of {type} for precision '{asked or type}': give float32 or float64"
        )
    return PRECISIONS.index("bfloat16" if asked == "bfloat16" else type)


def begin(kind: Any, like: Any, threads: int, precision: str = "", **sizes: Any) -> tuple[Any, str]:
    """A call of this structure with everything but its arrays, and the type that they must have."""
    type = name_of(like.dtype)
    number, openmp = precision_of(precision, type), hasattr(like, "data_ptr")  # a tensor
    call = kind(precision=number, instructions=in_use(), threads=threads, openmp=openmp, **sizes)
    return call, type


def address(array: Any, shape: tuple[int, ...], type: str) -> int:
    """Return where an array's numbers start; check its shape, type and strides."""
    tensor = hasattr(array, "data_ptr")
    contiguous = array.is_contiguous() if tensor else array.flags.c_contiguous
    if array.shape != shape or name_of(array.dtype) != type or not contiguous:
        layout = "" if contiguous else ", not contiguous"
        raise ValueError(
            f"expected a contiguous array {tuple(shape)} of {type}, "
            f"got {tuple(array.shape)} of {name_of(array.dtype)}{layout}"
        )
    place: int = array.data_ptr() if tensor else array.__array_interface__["data"][0]
    return place


def fill(call: Any, type: str, sizes: Mapping[str, int], arrays: Mapping[str, Any]) -> None:
    """Write the addresses of arrays into a call.

    Args:
        call, type: from `begin`.
        sizes: by the letters of the call's ``shapes``.
        arrays: by the names of fields; sequences where there is one for each gate.
    """
    for name, given in arrays.items():
        if given is None:
            continue
        shape = tuple(map(sizes.__getitem__, call.shapes[name]))
        if not isinstance(given, (list, tuple)):
            setattr(call, name, address(given, shape, type))
            continue
        pointers = getattr(call, name)
        for g, array in enumerate(given):
            pointers[g] = None if array is None else address(array, shape, type)


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


_scratch = threading.local()
"""Scratch memory of each thread. It is kept: new pages at every call would cost more than some
of the products."""


def run(name: str, call: Any) -> None:
    """Call a function of the library, with the scratch memory that another one says it needs."""
    if call.threads < 1:
        raise ValueError(f"threads={call.threads}: at least 1 is needed")
    library, argument = loaded(), ctypes.byref(call)
    bytes = getattr(library, f"{name}_workspace")(argument)
    recorded = _recorded.get()
    if recorded is not None and bytes >= 0:
        recorded.append((name, call, bytes))
        return
    if bytes > 0:  # below 0 there is none for such sizes, and the function says what is wrong
        if bytes > getattr(_scratch, "bytes", 0):
            _scratch.memory, _scratch.bytes = ctypes.create_string_buffer(bytes), bytes
        call.workspace = ctypes.addressof(_scratch.memory)
    check(getattr(library, name)(argument))


def check(error: int) -> None:
    """Raise the error that a function of the library returned, if it did."""
    if error:
        raise ValueError(loaded().unrolled_message(error).decode())
