"""``unrolled doctor``: what this machine has, what it lacks, and how to install it."""

import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from unrolled import __version__, frameworks, native
from unrolled.kernels import explain
from unrolled.training.surroundings import processor

LONGEST_CHECK_S = 300
"""Seconds after which a check counts as hanging; the kernels take one, a framework some ten."""


def examine(check: bool = False) -> Iterator[str]:
    """Lines for a person: Python, the kernels, every framework; no framework is loaded here.

    With ``check`` each framework is loaded in a process of its own, and its numbers compared with
    the reference, which takes some ten seconds each.
    """
    yield f"unrolled    {__version__}"
    yield f"Python      {platform.python_version()} ({sys.executable})"
    yield f"machine     {processor()}, {os.cpu_count()} CPUs, {platform.platform()}"
    yield f"recurrences {explain()}"
    yield "on GPUs     cuDNN's layers in PyTorch; engine=triton: tested, but never run on a GPU"
    if native.available()[0]:
        with frameworks.working("checking the kernels"):
            lines, end = apart("unrolled.kernelcheck")
        if end:
            lines += [
                f"CRASH: the process that checked them {end}",
                "A training can end the same way. Go on without: UNROLLED_NATIVE=off unrolled ...",
            ]
        yield from _titled("kernels", lines)
    for name, title in frameworks.FRAMEWORKS.items():
        if not frameworks.is_installed(name):
            yield f"{title:<11} not installed; get it {frameworks.advice(name)}"
            continue
        lines = [version_of(name)]
        if check:
            with frameworks.working(f"checking {title}"):
                told, end = apart("unrolled.selfcheck", name)
            lines += [*told, f"CRASH: the process that checked it {end}"] if end else told
        yield from _titled(title, lines)
    if not check:
        yield "Devices, and every framework's numbers beside the reference: unrolled doctor --check"


def apart(module: str, *arguments: str) -> tuple[list[str], str]:
    """The lines that a module of ours prints in its own process; its end, "" where it went well."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST_CHECK_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return _lines(late.stdout), f"has not ended after {LONGEST_CHECK_S} seconds"
    code, errors = done.returncode, _lines(done.stderr)
    if not code:
        return _lines(done.stdout), ""
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    last = f" after: {errors[-1]}" if errors else ""
    return _lines(done.stdout), f"{'was ended' if code < 0 else 'ended'} {how}{last}"


def version_of(name: str) -> str:
    """The version of a framework that is installed, from its metadata; it is not loaded."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # TensorFlow's package has several names
        for package in importlib.metadata.packages_distributions().get(name, ()):
            return importlib.metadata.version(package)
        return "version unknown"


def _lines(output: bytes | None) -> list[str]:
    return (output or b"").decode(errors="replace").splitlines()


def _titled(title: str, lines: list[str]) -> Iterator[str]:
    """The lines in a column, with a title before the first."""
    for number, line in enumerate(lines):
        yield f"{'' if number else title:<11} {line}"
