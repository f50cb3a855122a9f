"""Every exception that a user can cause, and "did you mean".

A message says what was given, what was expected, and what to do next. The command line
prints it without a traceback and exits with ``UnrolledError.exit_code``.
"""

import difflib
import signal
from collections.abc import Iterable, Mapping
from typing import Any

SEEDS = 2**32
"""Seeds that the generators of all frameworks tell apart."""

MOST_NAMES = 40
"""Names that a message lists: more than there are settings, fewer than a screen full."""


MOST_WHOLE = 10**30
"""Whole numbers whose products still fit a float; what is typed must not be larger."""

LONGEST_SHOWN = 60
"""Characters of what was given that a message about it shows."""


class UnrolledError(Exception):
    """Base of all errors below."""

    exit_code = 2


class SettingError(UnrolledError, ValueError):
    """A setting that does not exist, or a value of the wrong type or range."""


class TextError(UnrolledError, ValueError):
    """A text that cannot be read or trained on."""


class DataError(UnrolledError, ValueError):
    """Data, or arrays given to a metric, that are damaged or do not fit each other."""


class RunError(UnrolledError):
    """A run directory that cannot be written or read."""


class ProcessLostError(RunError):
    """Another process of a training has ended; its exit code tells scripts to start all again."""

    exit_code = 3


class InUseError(RunError):
    """A directory that another process has locked."""


class ResumeError(RunError):
    """A run that cannot be resumed, or not exactly."""


class ParameterError(UnrolledError, ValueError):
    """Parameters that are not there, or do not fit a model."""


class MissingFrameworkError(UnrolledError, ImportError):
    """A framework that is not installed."""


class MissingPackageError(UnrolledError, ImportError):
    """A package that only some uses need, and that is not installed."""


class TerminatedError(UnrolledError):
    """The system told the program to end; what there was is kept.

    Args:
        told: the signal.
    """

    def __init__(self, told: signal.Signals) -> None:
        super().__init__(f"stopped by {told.name}")
        self.exit_code = 128 + told  # as shells have it


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


def did_you_mean(given: str, known: Iterable[str], most: int = MOST_NAMES) -> str:
    """The end of a sentence: ``did you mean 'x'?`` if a known name is near, then what there is."""
    known = list(known)
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    every = f"here are: {', '.join(known[:most])}{more}"
    return f"did you mean '{near[0]}'? T{every}" if near else f"t{every}"


def shortened(text: str) -> str:
    """The beginning of a text that is too long for a message.

    Example:
        >>> shortened("9" * 4000)[-8:]
        '99999...'
    """
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def check_seed(seed: int) -> int:
    """The seed itself if all generators take it."""
    if not 0 <= seed < SEEDS:
        raise SettingError(f"seed is {seed}; it must be 0 or more, and below {SEEDS:,}")
    return seed


def check_fit(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Make sure that values fit parameters, by name and shape."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            lines.append(f"{name}: missing, expected {expected[name]}")
        elif name not in expected:
            lines.append(f"{name}: unexpected, has shape {found[name]}")
        elif expected[name] != found[name]:
            lines.append(f"{name}: has shape {found[name]}, expected {expected[name]}")
    if lines:
        raise ParameterError("\n".join(["the values do not fit the model:", *lines]))


def check_floating(values: Mapping[str, Any]) -> None:
    """Make sure that arrays by name hold floating-point numbers."""
    for name, value in values.items():
        if value.dtype.kind != "f":
            raise ParameterError(
                f"the values of '{name}' are {value.dtype}; floating-point numbers are expected"
            )
