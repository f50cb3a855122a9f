"""What decides how a computation rounds: versions, processor, instruction set, threads, devices."""

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unrolled import __version__, native
from unrolled.backends import Backend


def surroundings(backend: Backend | None = None) -> dict[str, Any]:
    """Versions, machine, and what the backend says of itself."""
    found: dict[str, Any] = {
        "unrolled": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "instructions": native.describe().get("instructions", "no native kernels"),
        "numpy": version("numpy"),
        "safetensors": version("safetensors"),
    }
    if backend is not None:
        found["framework"] = {"name": backend.name, **backend.describe()}
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any], head: str = "") -> list[str]:
    """What differs between two nested dicts, in words: ``"numpy is 2.4 and was 2.3"``.

    Example:
        >>> differences({"numpy": "2.3", "machine": "x86"}, {"numpy": "2.4", "machine": "x86"})
        ['numpy is 2.4 and was 2.3']
    """
    found = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{head}{name} ")
        elif old != new:
            found.append(f"{head}{name} is {_shown(new)} and was {_shown(old)}")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return f"{value}"


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
