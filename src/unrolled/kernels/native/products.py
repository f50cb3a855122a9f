"""What a model needs beside the recurrence: matrix products, and the backward pass through them."""

from typing import Any

from unrolled.kernels.native.arrays import address, is_tensor, precision_of
from unrolled.kernels.native.interface import AffineGradients, Product
from unrolled.kernels.native.loading import instructions_of, run


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
    call = Product()
    call.precision = precision_of(precision, C)
    call.instructions, call.threads = instructions_of(instructions), threads
    call.openmp = is_tensor(C)
    call.transpose_a, call.transpose_b, call.groups = transpose_a, transpose_b, 1
    call.accumulate = accumulate
    call.M, call.N, call.K = M, N, K
    call.A = address(A, (K, M) if transpose_a else (M, K), like=C)
    call.A_stride, call.B_stride, call.C_stride = A.shape[1], B.shape[1], N
    call.B[0] = address(B, (N, K) if transpose_b else (K, N), like=C)
    call.bias = address(bias, (N,), like=C)
    call.C[0] = address(C, (M, N))
    run("unrolled_product", call, "unrolled_product_workspace")


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
    instructions: str = "",
) -> None:
    """The backward pass through ``Y = X W + b``.

    Args:
        X: ``(N, D)``.
        W: ``(D, V)``.
        dY: gradient of the loss, ``(N, V)``.
        dX, dW, db: written, of the shapes of ``X``, ``W`` and ``(V,)``: ``dY W^T``, ``X^T dY``,
            and the sum of ``dY`` over its rows.
        precision, threads, instructions: as in `forward`.
    """
    (N, D), V = X.shape, W.shape[1]
    call = AffineGradients()
    call.precision = precision_of(precision, X)
    call.instructions, call.threads = instructions_of(instructions), threads
    call.openmp = is_tensor(X)
    call.N, call.D, call.V = N, D, V
    call.X, call.dX = address(X, (N, D)), address(dX, (N, D), like=X)
    call.W, call.dW = address(W, (D, V), like=X), address(dW, (D, V), like=X)
    call.dY, call.db = address(dY, (N, V), like=X), address(db, (V,), like=X)
    run("unrolled_affine_backward", call, "unrolled_affine_backward_workspace")
