"""Set the same number of threads for all frameworks."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from unrolled.errors import SettingError

VARIABLES = (
    "OMP_NUM_THREADS",  # PyTorch, MXNet, and libraries below them
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",  # NumPy
    "PJRT_NPROC",  # JAX
    "NPROC",  # JAX, before that
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
"""What libraries read when they are loaded."""


def available() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check(count: int) -> int:
    """The number itself if so many threads can run at a time, else a `SettingError`."""
    if not 1 <= count <= available():
        raise SettingError(
            f"threads is {count}; this process may use {available()} cores: give 1 to {available()}"
        )
    return count


@contextmanager
def fixed(count: int) -> Iterator[None]:
    """Limit all libraries to this number of cores while it is open.

    It must surround their being loaded: most of them start their threads then. Only PyTorch takes
    another number later. JAX takes as many as the process has cores, so where the system can, the
    process is kept to so many.
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, str(count)))
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
    if cores and count < len(cores):
        os.sched_setaffinity(0, sorted(cores)[:count])
    try:
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(count)
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
