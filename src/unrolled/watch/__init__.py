"""`watch` a training loop of your own: PyTorch's models, JAX's loss functions.

A framework loads when something of it is watched, and not before.
"""

import sys
from typing import Any

from unrolled.errors import SettingError


def watch(model: Any, **settings: Any) -> Any:
    """Record the gradients of a training loop of your own.

    Args:
        model: a `torch.nn.Module`, see `unrolled.watch.torch.watch`; or a function that gives a
            loss from parameters, see `unrolled.watch.jax.watch`.
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
        from unrolled.watch.torch import watch as watch_module

        return watch_module(model, **settings)
    if callable(model) and not isinstance(model, type) and "jax" in sys.modules:
        from unrolled.watch.jax import watch as watch_loss

        return watch_loss(model, **settings)
    raise SettingError(
        f"watch takes a torch.nn.Module, or a loss function of JAX; it was given a "
        f"{type(model).__name__}. Keras and MXNet: train with unrolled's own Trainer"
    )


def tap(h: Any, name: str) -> Any:
    """Name a hidden state inside a JAX loss; in PyTorch it is ``watched.tap(h, name)``.

    Args:
        h: the state of one step, as it goes on to the next.
        name: of the layer.

    Returns:
        ``h``, to go on with; see `unrolled.watch.jax.scans.tap`.
    """
    from unrolled.watch.jax.scans import tap as tap_state

    return tap_state(h, name)
