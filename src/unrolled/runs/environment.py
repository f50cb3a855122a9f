"""Where a run took place, for whoever wants to repeat it."""

import os
import platform
from importlib.metadata import version
from typing import Any

from unrolled import __version__
from unrolled.backends import Backend


def environment(backend: Backend | None = None) -> dict[str, Any]:
    """Versions, machine, and what the backend says of itself.

    Example:
        >>> sorted(environment())
        ['cpus', 'machine', 'numpy', 'platform', 'python', 'safetensors', 'unrolled']
    """
    surroundings: dict[str, Any] = {
        "unrolled": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "numpy": version("numpy"),
        "safetensors": version("safetensors"),
    }
    if backend is not None:
        surroundings["framework"] = {"name": backend.name, **backend.describe()}
    return surroundings
