"""`Finding`, and how numbers, names and advice are put into words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

Severity = Literal["serious", "warning", "note"]

SEVERITIES = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """One thing that the diagnosis has found.

    Attributes:
        name: what it is, as ``"exploded"``.
        severity: ``"serious"``: the training has failed or will; ``"warning"``: it learns
            less than it could; ``"note"``: worth knowing.
        text: what was seen, in plain words.
        step: where it began; None if it concerns all of the training.
        parameter: the parameter, layer or tensor; None if it concerns all.
        numbers: what it was judged by.
        remedy: what to try.
        follows_from: name of the finding that caused it; None if it has a cause of its own.
    """

    name: str
    severity: Severity
    text: str
    step: int | None = None
    parameter: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    remedy: str = ""
    follows_from: str | None = None


Findings = Iterator[Finding]


def one_digit(value: float) -> str:
    """A number for advice."""
    return f"{float(f'{value:.1g}'):g}"


def either(advice: Iterable[str | None]) -> str:
    """Pieces of advice as alternatives."""
    return ", or ".join(each for each in advice if each)


def percent(share: float) -> str:
    """A share as a percentage with at most two digits."""
    return f"{float(f'{100 * share:.2g}'):g}%"


def some(names: list[str]) -> str:
    """The first of several names, and how many more: ``W and 2 more``."""
    if len(names) < 3:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"
