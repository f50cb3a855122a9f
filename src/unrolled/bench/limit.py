"""Matrix products of several libraries, timed like competitors: the fastest is the limit.

The product is that of one weight over a whole minibatch, ``(T * B, H) x (H, H)``, on random
numbers.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from unrolled import native
from unrolled.bench.competitors import lazily
from unrolled.bench.race import Entrant, Ready, repeated
from unrolled.bench.task import Task
from unrolled.frameworks import is_installed


def products(task: Task) -> list[Entrant]:
    """The libraries that are here, as entrants of a race."""
    torch, native_ = is_installed("torch"), native.available()[0]
    on_cpu = not task.gpu
    libraries = (
        ("numpy", "NumPy", on_cpu, numpy_product),
        ("native", "native kernels", on_cpu and native_, native_product),
        ("mm", "torch.mm", torch, lazily("torch", "product")),
        ("packed", "oneDNN, packed", on_cpu and torch, lazily("torch", "packed_product")),
    )
    operations = 2.0 * task.tokens * task.H**2
    return [
        Entrant(name, title, partial(start, task), 1, operations, is_limit=True)
        for name, title, here, start in libraries
        if here
    ]


def numpy_product(task: Task) -> Ready:
    """By NumPy's own library."""
    A, B, C = _factors(task)
    return repeated(lambda: np.matmul(A, B, out=C))


def native_product(task: Task) -> Ready:
    """By the project's own kernels."""
    A, B, C = _factors(task)
    return repeated(lambda: native.product(A, B, C, threads=task.threads))


def _factors(task: Task) -> tuple[npt.NDArray[np.float32], ...]:
    rng = np.random.default_rng(task.seed)
    shapes = (task.tokens, task.H), (task.H, task.H)
    A, B = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return A, B, np.empty_like(A)
