"""*Dive into Deep Learning* on TensorFlow: ``from unrolled.d2l import tensorflow as d2l``."""

from typing import Any

from unrolled import d2l
from unrolled.public_names import names_of_d2l

__all__ = list(names_of_d2l("tensorflow"))


def __getattr__(name: str) -> Any:
    return d2l.find("tensorflow", name)


def __dir__() -> list[str]:
    return __all__
