"""`Schedule` of checkpoints: every so many steps, epochs or seconds."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from unrolled.errors import SettingError, did_you_mean

EXAMPLE = "write every=1000steps, every=5epochs or every=10min, and keep=2 after a comma; or off"

UNITS = {
    **dict.fromkeys(["step", "steps"], ("steps", 1)),
    **dict.fromkeys(["epoch", "epochs"], ("epochs", 1)),
    **dict.fromkeys(["s", "second", "seconds"], ("s", 1)),
    **dict.fromkeys(["min", "minute", "minutes"], ("s", 60)),
    **dict.fromkeys(["h", "hour", "hours"], ("s", 3600)),
}
"""Units of an interval: what is counted, and how many of it."""

MOST = 10**15
"""Largest number of steps, epochs, seconds, and checkpoints to keep."""


@dataclass(frozen=True)
class Schedule:
    """Says when to write a checkpoint, and how many to keep.

    Args:
        every: the interval; a whole number of steps or epochs, any number of seconds.
        unit: of the interval.
        keep: how many of the last checkpoints to keep, besides the best.

    Raises:
        SettingError: a number is out of range, or the unit is unknown.

    Example:
        >>> Schedule.parse("every=10min")
        Schedule(every=600, unit='s', keep=2)
    """

    every: int | float
    unit: Literal["steps", "epochs", "s"]
    keep: int = 2

    def __post_init__(self) -> None:
        if self.unit not in ("steps", "epochs", "s"):
            raise SettingError(
                f"unit is {self.unit!r}; {did_you_mean(str(self.unit), ['steps', 'epochs', 's'])}"
            )
        counted = self.unit != "s"
        for name, value, whole in (("every", self.every, counted), ("keep", self.keep, True)):
            right = type(value) is int or (type(value) is float and not whole)
            if not right or not 0 < value <= MOST or (whole and value < 1):
                kind = "a whole number of at least 1" if whole else "a number above 0"
                raise SettingError(f"{name} is {value!r:.40}; it must be {kind}, at most {MOST:,}")

    @classmethod
    def parse(cls, text: str) -> "Schedule | None":
        """A schedule from text; None for "off".

        Example:
            >>> Schedule.parse("every=1,000 steps, keep=3")
            Schedule(every=1000, unit='steps', keep=3)
        """
        if text.strip().lower() == "off":
            return None
        values: dict[str, str] = {}
        # a comma between digits separates thousands
        for part in re.split(r",(?![0-9]{3}(?![0-9]))", text):
            name, equals, value = (each.strip() for each in part.partition("="))
            if not equals:
                raise SettingError(f"{_quoted(part)} sets nothing; {EXAMPLE}")
            if name not in ("every", "keep"):
                near = did_you_mean(name, ["every", "keep"])
                raise SettingError(f"{_quoted(name)} is unknown: {near}; {EXAMPLE}")
            if name in values:
                raise SettingError(f"{name} is there twice in {_quoted(text)}; {EXAMPLE}")
            values[name] = value
        if "every" not in values:
            raise SettingError(f"{_quoted(text)} does not say how often; {EXAMPLE}")
        every, unit = _interval(values["every"])
        keep = _number(values["keep"], "keep") if "keep" in values else cls.keep
        try:
            return cls(every, unit, keep)  # type: ignore[arg-type]  # it checks them
        except SettingError as error:
            raise SettingError(f"{_quoted(text)}: {error}; {EXAMPLE}") from None

    def due(self, step: int, epoch_end: int | None, seconds_since_last: float) -> bool:
        """Return whether to write a checkpoint now.

        Args:
            step: how many optimizer steps there were.
            epoch_end: the number, from 1, of the epoch that ends with this step; else None.
            seconds_since_last: since the last checkpoint, or since the start.
        """
        if self.unit == "steps":
            return step > 0 and step % int(self.every) == 0
        if self.unit == "epochs":
            return epoch_end is not None and epoch_end > 0 and epoch_end % int(self.every) == 0
        return seconds_since_last >= self.every


def _interval(text: str) -> tuple[int | float, str]:
    """The interval and what it counts, from text as ``10min``."""
    number, word = re.fullmatch(r"([-+0-9.,_ ]*(?:[eE][-+]?[0-9]+)?)(.*)", text, re.S).groups()  # type: ignore[union-attr]
    value, word = _number(number, f"every={text}"), word.strip().lower()
    if word not in UNITS:
        what = did_you_mean(word, ["steps", "epochs", "s", "min", "h"]) if word else "it has none"
        raise SettingError(f"the unit of {_quoted(f'every={text}')} is unknown: {what}; {EXAMPLE}")
    unit, factor = UNITS[word]
    return value * factor, unit


def _number(text: str, what: str) -> int | float:
    plain = text.replace(",", "").replace("_", "").strip()
    try:
        value = float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingError(f"{_quoted(text)} in {_quoted(what)} is no finite number; {EXAMPLE}")
    return int(plain) if plain.lstrip("+-").isdecimal() else value


def _quoted(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:56]} ...")
