"""One name for watching a model of any framework; loads none before it is needed."""

import sys
from typing import Any

from unrolled.errors import SettingError


def watch(model: Any, **settings: Any) -> Any:
    """Watch a person's own training: PyTorch's models, or in JAX the loss.

    Args:
        model: a `torch.nn.Module`, see `unrolled.torch.watch`; or a function that gives a
            loss from parameters, see `unrolled.jax.watch`.
        settings: those of the framework's ``watch``.

    Raises:
        SettingError: it is neither.

    Example:
        >>> import torch
        >>> with watch(torch.nn.Linear(3, 1)) as watched:
        ...     watched.last is None
        True
    """
    torch = sys.modules.get("torch")  # a module of it could not exist without
    if torch is not None and isinstance(model, torch.nn.Module):
        from unrolled.torch.watch import watch as watch_module

        return watch_module(model, **settings)
    if callable(model) and not isinstance(model, type) and "jax" in sys.modules:
        from unrolled.jax.watch import watch as watch_loss

        return watch_loss(model, **settings)
    raise SettingError(
        f"watch takes a torch.nn.Module, or a loss function of JAX; it was given a "
        f"{type(model).__name__}. Keras and MXNet: train with unrolled's own Trainer"
    )
