"""The supported frameworks: which are installed, loading one, how to install the others.

The one table of framework names. `load` gives the public module of a framework
(``unrolled.torch``), loaded only when asked for.
"""

import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from unrolled.errors import MissingFrameworkError, SettingError, did_you_mean

FRAMEWORKS = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow", "mxnet": "MXNet"}
"""Names on the command line (and of the modules and install extras), and in prose."""


APART = {"mxnet": "in an environment of its own, as it takes an older NumPy than the others"}
"""Where to install what does not go with the others."""

NEEDS = {"jax": ("jax", "flax", "optax")}
"""What must be there beside a module of the framework's own name."""


working: Callable[[str], AbstractContextManager[Any]] = nullcontext
"""Shows while it is open that something takes a while; the command line puts a live line here."""


def check(name: str) -> str:
    """The name itself if it is that of a framework."""
    if name not in FRAMEWORKS:
        raise SettingError(f"unknown framework '{name}': {did_you_mean(name, FRAMEWORKS)}")
    return name


def is_installed(name: str) -> bool:
    """Whether the framework can be imported; it is looked for, not loaded."""
    modules = NEEDS.get(check(name), (name,))
    return all(importlib.util.find_spec(module) is not None for module in modules)


def install_command(name: str) -> str:
    """The pip command that installs a framework, as this package's metadata asks for it."""
    try:
        declared = importlib.metadata.requires("unrolled") or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        declared = []
    wanted = [
        re.split(r"\s*;", line)[0]
        for line in declared
        if re.search(rf"""extra == ['"]{name}['"]""", line)
    ]
    return "pip install " + " ".join(f'"{requirement}"' for requirement in wanted or [name])


def advice(name: str) -> str:
    """How to get a framework: the command, and where it is to be typed if not here."""
    command = f"with: {install_command(name)}"
    return f"{APART[name]}, {command}" if name in APART else command


def require(name: str) -> None:
    """Make sure that a framework can be used, without loading it.

    Raises:
        SettingError: there is no such framework.
        MissingFrameworkError: it is not installed; the message has the pip command.
    """
    if not is_installed(name):
        raise MissingFrameworkError(
            f"{FRAMEWORKS[name]} is not installed in this Python. Install it {advice(name)}"
        )


def load(name: str, package: str = "unrolled") -> Any:
    """Return the public module of a framework, ``unrolled.<name>``, or that of another package.

    Args:
        name: of the framework.
        package: ``unrolled.d2l`` and ``unrolled.nndl`` have a module for each framework too.

    Raises:
        SettingError: there is no such framework.
        MissingFrameworkError: it is not installed; the message has the pip command.
    """
    require(name)
    module = f"{package}.{name}"
    if module in sys.modules:
        return sys.modules[module]
    with working(f"loading {FRAMEWORKS[name]}"):
        return importlib.import_module(module)
