"""Call the native matrix products, and the backward pass through an affine map."""

from typing import Any

from unrolled.kernels.native.arrays import address
from unrolled.kernels.native.interface import AffineGradients, Product
from unrolled.kernels.native.loading import begin, give, run


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
    run("unrolled_affine_backward", call, "unrolled_affine_backward_workspace")
