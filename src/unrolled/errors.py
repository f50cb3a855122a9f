"""Every error that a user can cause, and the words they are told in.

A message says what was given, what was expected, and what to do next. The command line
prints it without a traceback and exits with ``UnrolledError.exit_code``.
"""

import difflib
from collections.abc import Iterable


class UnrolledError(Exception):
    """Base of all errors below."""

    exit_code = 2


class SettingError(UnrolledError, ValueError):
    """A setting that does not exist, or a value of the wrong type or range."""


class TextError(UnrolledError, ValueError):
    """A text that cannot be read or trained on."""


class RunError(UnrolledError):
    """A run directory that cannot be written or read."""


class MissingFrameworkError(UnrolledError, ImportError):
    """A framework that is not installed."""


class NotFiniteError(UnrolledError, ArithmeticError):
    """A loss or gradient became NaN or infinite while training.

    Attributes:
        epoch: where it happened, from 1.
        step: the minibatch, from 1, counted over the whole training.
    """

    def __init__(self, message: str, *, epoch: int, step: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` if a known name is near, then what there is.

    Example:
        >>> did_you_mean("num_hidden", ["num_hiddens", "lr"])
        "did you mean 'num_hiddens'? There are: num_hiddens, lr"
        >>> did_you_mean("zzz", ["lr"])
        'there are: lr'
    """
    known = list(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    every = f"here are: {', '.join(known)}"
    return f"did you mean '{near[0]}'? T{every}" if near else f"t{every}"
