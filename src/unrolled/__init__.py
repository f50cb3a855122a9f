"""unrolled: deep learning from first principles; `unrolled.torch` and its kin load when asked for.

``from unrolled import torch`` gives the library on PyTorch: the training design, linear
regression and the recurrent language models. The formulas, free of any framework, are
in `unrolled.functional`. `Checkpoints` saves the training loops that you have written in PyTorch.
Importing this package imports no framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled import torch
    from unrolled.torch.checkpoints import Checkpoints as Checkpoints

__version__ = "0.1.0"

__all__ = ["Checkpoints", "__version__", "torch"]


def __getattr__(name: str) -> Any:
    from unrolled.frameworks import FRAMEWORKS, load

    if name in FRAMEWORKS:
        return load(name)
    if name == "Checkpoints":
        load("torch")
        return import_module("unrolled.torch.checkpoints").Checkpoints
    raise AttributeError(f"module 'unrolled' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
