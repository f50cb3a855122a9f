"""Measure the machine's fastest matrix product, of which each competitor reaches a share.

The product is that of one weight over a whole minibatch, ``(T * B, H) x (H, H)``, on random
numbers. The fastest library of those that are here is the limit.
"""

import importlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unrolled.bench.race import Entrant, Ready, repeated
from unrolled.bench.task import Task
from unrolled.frameworks import is_installed
from unrolled.kernels import native


def products(task: Task, precisions: set[str]) -> list[Entrant]:
    """The libraries that can be asked, as entrants of a race.

    Args:
        task: whose sizes.
        precisions: of the competitors.
    """
    operations = 2.0 * task.tokens * task.H**2

    def entrant(name: str, title: str, start: Callable[[Task], Ready], precision: str) -> Entrant:
        return Entrant(name, title, lambda: start(task), 1, operations, precision, is_limit=True)

    mm = entrant("mm", "torch.mm", _of_torch("product"), "float32")
    if task.gpu:
        return [mm] if is_installed("torch") else []
    found = [entrant("numpy", "NumPy", numpy_product, "float32")]
    if native.available()[0]:
        found.append(entrant("native", "native kernels", native_product, "float32"))
    if is_installed("torch"):
        found.append(mm)
        found.append(entrant("packed", "oneDNN, packed", _of_torch("packed_product"), "float32"))
    if "bfloat16" in precisions:
        found.append(
            entrant("native-bfloat16", "native kernels", native_bfloat16_product, "bfloat16")
        )
        found.append(
            entrant("packed-bfloat16", "oneDNN, packed", _of_torch("bfloat16_product"), "bfloat16")
        )
    return found


def numpy_product(task: Task) -> Ready:
    """By NumPy's own library."""
    A, B, C = _factors(task)
    return repeated(lambda: np.matmul(A, B, out=C))


def native_product(task: Task, precision: str = "float32") -> Ready:
    """By the project's own kernels."""
    A, B, C = _factors(task)
    return repeated(lambda: native.product(A, B, C, precision=precision, threads=task.threads))


def native_bfloat16_product(task: Task) -> Ready:
    """By the project's own kernels, float32 arrays multiplied in bfloat16."""
    return native_product(task, "bfloat16")


def _of_torch(name: str) -> Callable[[Task], Ready]:
    def start(task: Task) -> Ready:
        made: Ready = getattr(importlib.import_module("unrolled.bench.torch"), name)(task)
        return made

    return start


def _factors(task: Task) -> tuple[npt.NDArray[np.float32], ...]:
    rng = np.random.default_rng(task.seed)
    shapes = (task.tokens, task.H), (task.H, task.H)
    A, B = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return A, B, np.empty_like(A)
