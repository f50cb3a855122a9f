"""Models of all frameworks for tests."""

from typing import Any


def with_values(model: Any, *inputs: Any) -> Any:
    """A model that can be called: in JAX one that has been given its parameters."""
    return model.initialize(*inputs) if model.backend.name == "jax" else model
