"""Blocks of matrix products in Triton's language.

A block is named by its rows and its columns, two vectors of numbers. What lies outside of
the matrix is read as 0 and never written, so that any size will do. Matrices are stored row
by row, and arrays over time are matrices too: row ``t B + b`` of ``(T * B, H)`` is
sequence ``b`` at step ``t``.
"""

import triton
import triton.language as tl


@triton.jit
def read(X, rows, columns, inside, width):
    """``X[rows, columns]`` of a matrix that is ``width`` wide."""
    places = rows[:, None] * width + columns[None, :]
    return tl.load(X + places, mask=inside, other=0.0)


@triton.jit
def write(X, rows, columns, inside, width, block):
    """``X[rows, columns] = block``."""
    places = rows[:, None] * width + columns[None, :]
    tl.store(X + places, block, mask=inside)


@triton.jit
def times(
    X, rows, in_rows, depth,
    W, row_stride, columns, column_stride, in_columns,
    PARTS: tl.constexpr, SHARE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """``X[rows] @ W[:, columns]``.

    The sum over ``depth`` is cut into parts that different threads add up at the same time,
    ``SHARE`` terms each at once; then the parts are summed.

    The strides say how far the next row and the next column of ``W`` are: exchanged, they
    make it the product with the transposed matrix.
    """
    total = tl.zeros((PARTS, rows.shape[0], columns.shape[0]), tl.float32)
    terms = tl.arange(0, PARTS)[:, None] * SHARE + tl.arange(0, SHARE)[None, :]
    for start in range(0, depth, PARTS * SHARE):
        inner = start + terms  # (PARTS, SHARE)
        in_depth = inner < depth
        x = tl.load(
            X + rows[None, :, None] * depth + inner[:, None, :],
            mask=in_rows[None, :, None] & in_depth[:, None, :],
            other=0.0,
        )  # (PARTS, ROWS, SHARE)
        w = tl.load(
            W + inner[:, :, None] * row_stride + columns[None, None, :] * column_stride,
            mask=in_depth[:, :, None] & in_columns[None, None, :],
            other=0.0,
        )  # (PARTS, SHARE, UNITS)
        total = tl.dot(x, w, total, input_precision=PRECISION)
    return tl.sum(total, 0)
