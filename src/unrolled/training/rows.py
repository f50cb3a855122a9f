"""Decide when embedding gradients may be sparse."""

from typing import Any

from unrolled.functional.updates import SCALING
from unrolled.training.records import Listener

EVENTS = ("on_gradients", "on_backward", "on_not_finite")
"""The events that hand gradients to a listener."""


def rows_suffice(trainer: Any) -> bool:
    """Whether everything in a training that meets gradients can deal with such rows.

    The model must be one of those that look rows up by the project's own functions, clipping
    must multiply a gradient by one number (a reader's own may do anything), the optimizer must
    leave a row without a gradient where it is (plain SGD does; weight decay, momentum and Adam do
    not), and listeners must know what they are given.
    """
    return (
        trainer.model.looks_up_rows
        and not trainer.reader_clips
        and trainer.gradient_clip_method in SCALING
        and trainer.backend.takes_rows(trainer.optim)
        and all(
            listener.takes_rows or not _is_given_gradients(listener)
            for listener in trainer.listeners
        )
    )


def _is_given_gradients(listener: Listener) -> bool:
    kind = type(listener)
    return any(getattr(kind, event) is not getattr(Listener, event) for event in EVENTS)
