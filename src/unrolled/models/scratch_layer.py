"""Base class of layers whose parameters start from NumPy arrays, and their zero state."""

from collections.abc import Mapping
from typing import Any

from unrolled.backends import Array, Namespace
from unrolled.training.module import Module


class ScratchLayer(Module):
    """A layer that declares its parameters from initial values, NumPy arrays by name."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters by name, in the order of the formula."""
        raise NotImplementedError(f"{type(self).__name__} must define shapes()")

    def initial_values(self, *given: Any) -> dict[str, Any]:
        """Return NumPy arrays for the parameters; ``given``: what the constructor got for them."""
        raise NotImplementedError(f"{type(self).__name__} must define initial_values()")

    def declare_all(self, values: Mapping[str, Any]) -> None:
        """Make parameters with these initial values."""
        for name, array in self.backend.initialize(values).items():
            self.declare(name, array)

    def array(self, name: str) -> Array:
        """Return a parameter's live array."""
        return getattr(self, name)


def zero_state(xp: Namespace, X: Array, U: Array) -> Array:
    """Return zeros ``(B, H)`` beside inputs ``(L, B, D)`` and a layer's ``U (H, H)``."""
    return xp.zeros_like(X[0][:, :1]) * xp.zeros_like(U[:1])
