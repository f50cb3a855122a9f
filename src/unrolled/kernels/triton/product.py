"""A block of a matrix product, and how blocks of matrices are read and written.

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
    X, rows, in_rows, depth, W, row_stride, columns, column_stride, in_columns, SHARE, PRECISION
):
    """``X[rows] @ W[:, columns]``, summed over ``depth`` in shares.

    The strides say how far the next row and the next column of ``W`` are: exchanged, they
    make it the product with the transposed matrix.
    """
    total = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for start in range(0, depth, SHARE):
        inner = start + tl.arange(0, SHARE)
        in_depth = inner < depth
        x = read(X, rows, inner, in_rows[:, None] & in_depth[None, :], depth)
        places = inner[:, None] * row_stride + columns[None, :] * column_stride
        w = tl.load(W + places, mask=in_depth[:, None] & in_columns[None, :], other=0.0)
        total = tl.dot(x, w, total, input_precision=PRECISION)
    return total
