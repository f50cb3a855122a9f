"""*Dive into Deep Learning* on MXNet: ``from unrolled.d2l import mxnet as d2l``."""

from typing import Any

from unrolled import d2l
from unrolled.public_names import names_of_d2l

__all__ = list(names_of_d2l("mxnet"))


def __getattr__(name: str) -> Any:
    return d2l.find("mxnet", name)


def __dir__() -> list[str]:
    return __all__
