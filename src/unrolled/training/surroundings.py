"""Versions, processor, instruction set, threads, devices: they decide how a training rounds."""

import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unrolled import __version__, native
from unrolled.backends import Backend
from unrolled.errors import ResumeError

_version = cache(version)  # every checkpoint asks, and to read it takes milliseconds


def surroundings(backend: Backend | None = None) -> dict[str, Any]:
    """Versions, machine, and what the backend says of itself."""
    found: dict[str, Any] = {
        "unrolled": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "instructions": native.describe().get("instructions", "no native kernels"),
        "numpy": _version("numpy"),
        "safetensors": _version("safetensors"),
    }
    if backend is not None:
        found["framework"] = {"name": backend.name, **backend.describe()}
    return found


def versions(backend: Backend) -> dict[str, Any]:
    """Versions that must be the same in all processes of a training."""
    found = surroundings(backend)
    names = "unrolled", "python", "numpy"
    return {n: found[n] for n in names} | {backend.name: found["framework"]["version"]}


def rounding(backend: Backend, device: str) -> dict[str, Any]:
    """Return the surroundings that decide how a training rounds, and its device."""
    found = surroundings(backend)
    del found["platform"]  # a new kernel of the system changes no number
    return {**found, "device": device}


def check_same(differ: Sequence[str], why: Sequence[str], force: bool) -> list[str]:
    """Refuse a training that is not that of its checkpoint; forced, return what differs.

    Args:
        differ: what makes it another training, in words.
        why: what makes it go on with other roundings or random draws, in words.
        force: go on all the same.

    Raises:
        ResumeError: there is something, and no ``force``.
    """
    told = []
    if differ:
        told.append(f"this is another training than that of the checkpoint: {', '.join(differ)}")
    if why:
        told.append(f"not exact, because {', '.join(why)}")
    if told and not force:
        raise ResumeError("\n".join([*told, "To go on all the same: force=True, or --force"]))
    return told


def no_fit(folder: Path, error: Exception) -> ResumeError:
    """The error that a checkpoint is of something else."""
    why = f"it lacks {error}" if isinstance(error, KeyError) else f"{error}"
    return ResumeError(f"the newest checkpoint in '{folder}' does not fit this training: {why}")


@cache  # a process that may open no more files must not forget it
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
