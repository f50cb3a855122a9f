"""unrolled: deep learning from first principles; `unrolled.torch` and its kin load when asked for.

``from unrolled import torch`` gives the library on PyTorch: the training design, linear
regression and the recurrent language models. The formulas, free of any framework, are
in `unrolled.functional`. Importing this package imports no framework.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled import torch

__version__ = "0.1.0"

__all__ = ["__version__", "torch"]


def __getattr__(name: str) -> Any:
    from unrolled.frameworks import FRAMEWORKS, load

    if name in FRAMEWORKS:
        return load(name)
    raise AttributeError(f"module 'unrolled' has no attribute '{name}'")
