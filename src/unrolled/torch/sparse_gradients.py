"""Let embedding gradients be sparse where everything in a training can deal with them."""

from collections.abc import Callable
from typing import Any

import torch

from unrolled.backends.rows import MANY, row_gradients
from unrolled.functional.clipping import SCALING
from unrolled.training.records import Listener

EVENTS = ("on_gradients", "on_backward", "on_not_finite")
"""The events that hand gradients to a listener."""


def with_sparse_gradients(trainer: Any, objective: Callable[..., Any]) -> Callable[..., Any]:
    """The objective, with gradients of the rows that it looks up where `rows_suffice`."""
    if not rows_suffice(trainer):
        return objective

    def sparse(*arguments: Any) -> Any:
        with row_gradients(True):
            return objective(*arguments)

    return sparse


def rows_suffice(trainer: Any) -> bool:
    """Whether there is a large table, and all that meets its gradient can deal with such rows.

    The model must be one of those that look rows up by the project's own functions, clipping
    must multiply a gradient by one number (a reader's own may do anything), the optimizer must
    leave a row without a gradient where it is, and listeners must know what they are given.
    """
    return (
        trainer.model.looks_up_rows
        and any(p.dim() > 1 and p.shape[0] >= MANY for p in trainer.parameters.values())
        and not trainer.reader_clips
        and trainer.gradient_clip_method in SCALING
        and moves_rows_only(trainer.optim)
        and all(
            listener.takes_rows or not _is_given_gradients(listener)
            for listener in trainer.listeners
        )
    )


def moves_rows_only(optimizer: Any) -> bool:
    """Whether an optimizer takes a sparse gradient, and leaves the other rows where they are.

    Plain SGD does; weight decay, momentum and Adam do not.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return getattr(optimizer, "takes_rows", False)
    others = ("momentum", "weight_decay", "fused")  # these do not know sparse gradients
    return not any(group.get(name) for group in optimizer.param_groups for name in others)


def _is_given_gradients(listener: Listener) -> bool:
    kind = type(listener)
    return any(getattr(kind, event) is not getattr(Listener, event) for event in EVENTS)
