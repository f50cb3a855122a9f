"""Names of *Neural Networks and Deep Learning*: ``from unrolled.nndl import torch as nndl``."""

from typing import Any

from unrolled import frameworks


def __getattr__(name: str) -> Any:
    if name in frameworks.FRAMEWORKS:
        return frameworks.load(name, __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
