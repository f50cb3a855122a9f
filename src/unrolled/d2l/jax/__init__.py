"""*Dive into Deep Learning* on JAX: ``from unrolled.d2l import jax as d2l``.

``grad_clipping`` and ``train_epoch_ch8`` change arrays in place, so JAX has none; ``train_ch8``
returns the trained network.
"""

from typing import Any

from unrolled import d2l
from unrolled.public_names import names_of_d2l

__all__ = list(names_of_d2l("jax"))


def __getattr__(name: str) -> Any:
    return d2l.find("jax", name)


def __dir__() -> list[str]:
    return __all__
