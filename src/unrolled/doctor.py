"""What a machine has, what it lacks, and what to type to get it."""

import logging
import os
import platform
import sys
from collections.abc import Iterator

from unrolled import __version__, frameworks, selfcheck
from unrolled.kernels import explain, on_gpu


def examine() -> Iterator[str]:
    """Lines for a person: Python, every framework, devices, threads.

    Example:
        >>> next(iter(examine())).split()[0]
        'unrolled'
    """
    yield f"unrolled    {__version__}"
    yield f"Python      {platform.python_version()} ({sys.executable})"
    yield f"machine     {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}"
    yield f"recurrences {explain()}"
    for name, title in frameworks.FRAMEWORKS.items():
        if not frameworks.is_installed(name):
            yield f"{title:<11} not installed; get it {frameworks.advice(name)}"
            continue
        try:
            facts = frameworks.face(name).backend.describe()
        except Exception as error:  # a broken installation is what the doctor is asked about
            yield f"{title:<11} installed, but does not load: {type(error).__name__}: {error}"
            continue
        yield (
            f"{title:<11} {facts['version']}, devices: {', '.join(facts['devices'])}, "
            f"threads: {facts['threads']}, NumPy {facts['numpy']}"
        )
        with frameworks.working(f"checking {title}"):
            told = [_checked(name), *_compared(name)]
        yield from (f"{'':<11} {line}" for line in told)


def _compared(name: str) -> list[str]:
    """What carries recurrences on the GPU, if there is one."""
    try:
        return [f"GPU: {line}" for line in on_gpu(name)]
    except Exception as error:  # as above
        return [f"cannot compare engines on the GPU: {type(error).__name__}: {error}"]


def _checked(name: str) -> str:
    """How far a framework's numbers are from those that they should be."""
    logging.disable(logging.WARNING)  # TensorFlow's, of many small programs compiled in a row
    try:
        difference = selfcheck.compare(name)
    except Exception as error:  # as above
        return f"cannot train: {type(error).__name__}: {error}"
    finally:
        logging.disable(logging.NOTSET)
    found = f"largest difference from the reference: {difference:.0e}"
    if difference <= selfcheck.ROUNDING:
        return found
    return (
        f"{found}. WRONG: float32 explains {selfcheck.ROUNDING:.0e} at most. Install the "
        "framework anew"
    )
