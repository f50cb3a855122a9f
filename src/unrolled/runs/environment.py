"""Record where, when and by which command a run took place."""

import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unrolled import __version__
from unrolled.backends import Backend

ENVIRONMENT = "environment.json"


def environment(backend: Backend | None = None) -> dict[str, Any]:
    """When and how it began, versions, machine, and what the backend says of itself."""
    from unrolled import native  # when needed: it loads NumPy

    surroundings: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "unrolled": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "instructions": native.describe().get("instructions", "no native kernels"),
        "numpy": version("numpy"),
        "safetensors": version("safetensors"),
    }
    if backend is not None:
        surroundings["framework"] = {"name": backend.name, **backend.describe()}
    return surroundings


def processor() -> str:
    """The processor's name as the system tells it; its architecture where it does not."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.check_output(command, text=True).strip()
    return platform.processor() or platform.machine()
