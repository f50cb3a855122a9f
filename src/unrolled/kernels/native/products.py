"""What a layer needs beside the recurrence: products and sums over all steps."""

from collections.abc import Sequence
from typing import Any

from unrolled.kernels.native.arrays import (
    address,
    fill,
    is_tensor,
    item_bytes,
    precision_of,
    type_of,
)
from unrolled.kernels.native.interface import PRECISIONS, Product, RowSums
from unrolled.kernels.native.loading import instructions_of, run

WORKSPACE = "unrolled_product_workspace"


def weight_gradient(
    outputs: Any,
    D: Any,
    dW_h: Sequence[Any],
    *,
    h0: Any = None,
    precision: str = "",
    threads: int = 1,
    instructions: str = "",
) -> None:
    """Gradient of the recurrent weights: one product over all steps, ``sum_t H_{t-1}^T D_t``.

    Args:
        outputs: hidden states ``(T, B, H)``.
        D: from `backward`, ``(T, B, G H)``.
        dW_h: written, G arrays ``(H, H)``.
        h0: the state before the first step, ``(B, H)``; zeros by default.
        precision, threads, instructions: as in `forward`.
    """
    T, B, H = outputs.shape
    G = len(dW_h)
    call = _product(outputs, precision, threads, instructions)
    start = address(outputs, (T, B, H))
    stacked = address(D, (T, B, G * H), like=outputs)
    skipped = 0 if h0 is not None else B  # zeros contribute nothing
    if skipped == T * B:  # ... and this is all that there is
        for dW in dW_h:
            dW[...] = 0
        return
    call.transpose_a, call.groups = 1, G
    call.M, call.N, call.K = H, H, T * B - skipped
    call.A_first, call.split = address(h0, (B, H), like=outputs), B - skipped
    call.A, call.A_stride = start, H
    item = item_bytes(outputs)
    fill(call.B, [stacked + (skipped * G * H + g * H) * item for g in range(G)])
    call.B_stride = G * H
    fill(call.C, [address(dW, (H, H), like=outputs) for dW in dW_h])
    call.C_stride = H
    run("unrolled_product", call, WORKSPACE)


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
    instructions: str = "",
) -> None:
    """Matrix product ``C = A B``, ``C = A B + bias``, or with ``accumulate`` ``C += A B``.

    Args:
        A: ``(M, K)``, or ``(K, M)`` with ``transpose_a``.
        B: ``(K, N)``, or ``(N, K)`` with ``transpose_b``.
        C: written, ``(M, N)``.
        transpose_a, transpose_b: use the transpose of what is given.
        bias: ``(N,)``, added to every row.
        accumulate: add to what stands in ``C``; not with ``bias``.
        precision, threads, instructions: as in `forward`.

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
    call = _product(C, precision, threads, instructions)
    call.transpose_a, call.transpose_b, call.groups = transpose_a, transpose_b, 1
    call.accumulate = accumulate
    call.M, call.N, call.K = M, N, K
    call.A = address(A, (K, M) if transpose_a else (M, K), like=C)
    call.A_stride, call.B_stride, call.C_stride = A.shape[1], B.shape[1], N
    call.B[0] = address(B, (N, K) if transpose_b else (K, N), like=C)
    call.bias = address(bias, (N,), like=C)
    call.C[0] = address(C, (M, N))
    run("unrolled_product", call, WORKSPACE)


def row_sums(
    dA: Any,
    db: Sequence[Any] = (),
    *,
    ids: Any = None,
    dW_x: Sequence[Any] = (),
    threads: int = 1,
    instructions: str = "",
) -> None:
    """Gradients of the biases and of the rows of ``W_x`` that were looked up.

    Args:
        dA: gradient at the input side, ``(T, B, G H)``.
        db: written, G arrays ``(H,)``, or None where nobody asks.
        ids: ``(T, B)``, int64, what `forward` looked up.
        dW_x: written, G arrays ``(V, H)``; needs ``ids``.
        threads, instructions: as in `forward`.
    """
    T, B, stacked = dA.shape
    G = len(db) or len(dW_x)
    H = stacked // G
    call = RowSums()
    call.precision = PRECISIONS.index(type_of(dA))
    call.threads, call.instructions = threads, instructions_of(instructions)
    call.openmp = is_tensor(dA)
    call.groups, call.K, call.N = G, T * B, H
    call.dA = address(dA, (T, B, G * H))
    if dW_x:
        call.V = dW_x[0].shape[0]
        call.ids = address(ids, (T, B), type="int64")
    fill(call.dW_x, [address(dW, (call.V, H), like=dA) for dW in dW_x])
    fill(call.db, [address(b, (H,), like=dA) for b in db])
    run("unrolled_row_sums", call)


def _product(like: Any, precision: str, threads: int, instructions: str) -> Product:
    call = Product()
    call.precision = precision_of(precision, like)
    call.instructions, call.threads = instructions_of(instructions), threads
    call.openmp = is_tensor(like)
    return call
