"""Matrix products of several libraries, timed like competitors: the fastest is the limit.

The product is that of one weight over a whole minibatch, ``(T * B, H) x (H, H)``, on random
numbers. The fastest library of those that are here is the limit.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from unrolled import native
from unrolled.bench.competitors import lazily
from unrolled.bench.race import Entrant, Ready, repeated
from unrolled.bench.task import Task
from unrolled.frameworks import is_installed


def products(task: Task, precisions: set[str]) -> list[Entrant]:
    """The libraries that can be asked at these precisions, as entrants of a race."""
    torch, native_ = is_installed("torch"), native.available()[0]
    libraries = (
        ("numpy", "NumPy", "float32", not task.gpu, numpy_product),
        ("native", "native kernels", "float32", not task.gpu and native_, native_product),
        ("mm", "torch.mm", "float32", torch, lazily("torch", "product")),
        ("packed", "oneDNN, packed", "float32", not task.gpu and torch,
         lazily("torch", "packed_product")),
        ("native-bfloat16", "native kernels", "bfloat16", not task.gpu,
         lambda task: native_product(task, "bfloat16")),
        ("packed-bfloat16", "oneDNN, packed", "bfloat16", not task.gpu,
         lazily("torch", "packed_product", "bfloat16")),
    )  # fmt: skip
    operations = 2.0 * task.tokens * task.H**2
    return [
        Entrant(name, title, partial(start, task), 1, operations, precision, is_limit=True)
        for name, title, precision, here, start in libraries
        if here and precision in precisions | {"float32"}
    ]


def numpy_product(task: Task) -> Ready:
    """By NumPy's own library."""
    A, B, C = _factors(task)
    return repeated(lambda: np.matmul(A, B, out=C))


def native_product(task: Task, precision: str = "float32") -> Ready:
    """By the project's own kernels; float32 arrays may be multiplied in bfloat16."""
    A, B, C = _factors(task)
    return repeated(lambda: native.product(A, B, C, precision=precision, threads=task.threads))


def _factors(task: Task) -> tuple[npt.NDArray[np.float32], ...]:
    rng = np.random.default_rng(task.seed)
    shapes = (task.tokens, task.H), (task.H, task.H)
    A, B = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return A, B, np.empty_like(A)
