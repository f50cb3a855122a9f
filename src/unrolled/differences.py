"""Compare two nested dicts; name the differences in words."""

from collections.abc import Mapping, Sequence
from typing import Any


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], head: str = "", other: str = "was {}"
) -> list[str]:
    """Return the differences of two nested dicts in words.

    Names begin with ``head``; ``other`` says what a value is in ``before``.

    Example:
        >>> differences({"numpy": "2.3", "machine": "x86"}, {"numpy": "2.4", "machine": "x86"})
        ['numpy is 2.4 and was 2.3']
        >>> differences({"cell": {"bias": True}}, {"cell": {"bias": False}}, other="{} there")
        ['cell bias is False and True there']
    """
    found = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{head}{name} ", other)
        elif old != new:
            found.append(f"{head}{name} is {_shown(new)} and {other.format(_shown(old))}")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return f"{value}"
