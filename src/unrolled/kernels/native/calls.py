"""The native kernels as functions of arrays: recurrent layers, products, norms.

``interface.h`` says of every array what it holds and what it is when left out; the types and
shapes are in ``interface.py``. Where gates have arrays of their own, sequences of G are given.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from unrolled.errors import did_you_mean
from unrolled.kernels.native.calling import address, begin, fill, give, item_bytes, run, type_of
from unrolled.kernels.native.interface import (
    CELLS,
    AffineGradients,
    LayerNumbers,
    Norms,
    Product,
    Recurrence,
)


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
    call, sizes = _begin(cell, W_h, outputs, precision, threads)
    T, B, H, GH = (sizes[letter] for letter in ("T", "B", "H", "GH"))
    if ids is None:
        first = address(inputs, (T, B, GH), like=outputs)
        fill(call.inputs, [first + i * item_bytes(outputs) for i in range(0, GH, H)])
        call.input_stride = GH
    else:
        call.V, call.input_stride = inputs[0].shape[0], H
        fill(call.inputs, [address(W, (call.V, H), like=outputs) for W in inputs])
        call.ids = address(ids, (T, B), type="int64")
    give(call, outputs, sizes, arrays)
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
    call, sizes = _begin(cell, W_h, outputs, precision, threads)
    if dW_x:
        call.V = sizes["V"] = dW_x[0].shape[0]
        call.ids = address(ids, tuple(outputs.shape[:2]), type="int64")
        give(call, outputs, sizes, {"dW_x": dW_x})
    give(call, outputs, sizes, {"D": D, **arrays})
    run("unrolled_backward", call)


def _begin(
    cell: str, W_h: Sequence[Any], outputs: Any, precision: str, threads: int
) -> tuple[Any, dict[str, int]]:
    """The call with what forward and backward have in common, and the sizes of arrays."""
    if cell not in CELLS:
        raise ValueError(f"unknown cell '{cell}': {did_you_mean(cell, CELLS)}")
    (T, B, H), G = outputs.shape, CELLS[cell]
    if len(W_h) != G:
        raise ValueError(f"{cell} has {G} recurrent weights, not {len(W_h)}")
    call = begin(Recurrence, outputs, threads, precision, T=T, B=B, H=H)
    call.cell = [*CELLS].index(cell)
    sizes = {"T": T, "B": B, "H": H, "4H": 4 * H, "GH": G * H}
    give(call, outputs, sizes, {"W_h": W_h, "outputs": outputs})
    return call, sizes


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
        >>> from unrolled.kernels.native import available
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
    call = begin(Product, C, threads, precision, M=M, N=N, K=K)
    call.transpose_a, call.transpose_b, call.groups = transpose_a, transpose_b, 1
    call.accumulate = accumulate
    call.A = address(A, (K, M) if transpose_a else (M, K), like=C)
    call.A_stride, call.B_stride, call.C_stride = A.shape[1], B.shape[1], N
    call.B[0] = address(B, (N, K) if transpose_b else (K, N), like=C)
    call.bias = address(bias, (N,), like=C)
    call.C[0] = address(C, (M, N))
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
    call = begin(AffineGradients, X, threads, precision, **sizes)
    give(call, X, sizes, {"X": X, "W": W, "dY": dY, "dX": dX, "dW": dW, "db": db})
    run("unrolled_affine_backward", call)


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
        threads: as in `unrolled.kernels.native.forward`.

    Raises:
        ValueError: an array of another shape or type, or not contiguous.
    """
    (T, B, H), G = after.shape, D.shape[-1] // after.shape[-1]
    call = begin(LayerNumbers, after, threads, T=T, B=B, H=H, G=G, limit=limit, relu=relu)
    sizes = {"T": T, "B": B, "H": H, "GH": G * H, "3T+1": 3 * T + 1}
    arrays = {"dH": dH, "D": D, "after": after, "before": before, "first": first, "numbers": out}
    give(call, after, sizes, arrays)
    run("unrolled_layer_numbers", call)
