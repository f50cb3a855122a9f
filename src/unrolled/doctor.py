"""What a machine has, what it lacks, and what to type to get it."""

import os
import platform
import sys
from collections.abc import Iterator

from unrolled import __version__, frameworks


def examine() -> Iterator[str]:
    """Lines for a person: Python, every framework, devices, threads.

    Example:
        >>> next(iter(examine())).split()[0]
        'unrolled'
    """
    yield f"unrolled    {__version__}"
    yield f"Python      {platform.python_version()} ({sys.executable})"
    yield f"machine     {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}"
    for name, title in frameworks.FRAMEWORKS.items():
        if not frameworks.is_installed(name):
            yield f"{title:<11} not installed; get it with: {frameworks.install_command(name)}"
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
