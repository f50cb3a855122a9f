"""Names of *Dive into Deep Learning*: ``from unrolled.d2l import torch as d2l``.

The framework's module has what ``unrolled.torch`` has, and the names of the book beside it.
"""

from collections.abc import Callable
from typing import Any

from unrolled import frameworks
from unrolled.public_names import names_of_d2l, no_such_name


def __getattr__(name: str) -> Any:
    if name in frameworks.FRAMEWORKS:
        return frameworks.load(name, __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def find_in(functions: Any, module: str) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` that finds the rest of its names in ``functions``."""
    names = names_of_d2l(module.rpartition(".")[2])

    def __getattr__(name: str) -> Any:  # noqa: N807 (a module's)
        if name in names:
            return getattr(functions, name)
        raise no_such_name(module, name)

    return __getattr__
