"""Names of *Dive into Deep Learning*: ``from unrolled.d2l import torch as d2l``.

The framework's module has what ``unrolled.torch`` has, and the names of the book beside it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from unrolled import frameworks
from unrolled.public_names import D2L, OWN, names_of_d2l, no_such_name


def __getattr__(name: str) -> Any:
    if name in frameworks.FRAMEWORKS:
        return frameworks.load(name, __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def names_from(*chapters: Any) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` that finds names in objects, the first one first."""

    def __getattr__(name: str) -> Any:  # noqa: N807 (a module's)
        for chapter in chapters:
            if hasattr(chapter, name):
                return getattr(chapter, name)
        raise AttributeError(f"no chapter has '{name}'")

    return __getattr__


def find(framework: str, name: str) -> Any:
    """Return what ``unrolled.d2l.<framework>`` calls ``name``.

    Raises:
        AttributeError: there is no such name; the message says where it is.
    """
    if name in OWN:
        return getattr(frameworks.load(framework), name)
    if name in names_of_d2l(framework):
        place = next(place for place, names in D2L.items() if name in names)
        return getattr(import_module(place.format(framework=framework)), name)
    raise no_such_name(f"{__name__}.{framework}", name)
