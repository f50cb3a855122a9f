"""Settings of an experiment: declared once as a dataclass, set by ``name=value``.

A field's type, default, help and range are all there is to write; reading, checking,
error messages and the listing follow from it. A field of type ``tuple[int, ...]`` takes
several values, ``lengths=10,20,30``; range and choices hold for each of them.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from unrolled.errors import (
    MOST_WHOLE,
    ParameterError,
    SettingError,
    did_you_mean,
    shortened,
)

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

Settings = TypeVar("Settings")


def setting(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
    shown: str | None = None,
    may_change: bool = False,
) -> Any:
    """A field of a settings dataclass, with its help and the values allowed.

    Args:
        default: its value if not set.
        help: what it is, in a few words.
        least, most, above: its smallest and largest value; the one that it must exceed.
        choices: the values allowed.
        shown: how to show the default in listings, where it depends on other settings.
        may_change: whether a run that is resumed may have another one, and stay exact.
    """
    limits = {"least": least, "most": most, "above": above, "choices": choices}
    rules = {"help": help, **limits, "shown": shown, "may_change": may_change}
    return dataclasses.field(default=default, metadata=rules)


def parse(
    cls: type[Settings], assignments: Iterable[str], before: Settings | None = None
) -> Settings:
    """Settings from assignments ``name=value``; the rest is as ``before``, or the defaults.

    A `SettingError` names every unknown name, wrong type and value out of range, all at once.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    types = get_type_hints(cls)
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals:
            mistakes.append(f"'{shortened(assignment)}' sets nothing; write name=value")
        elif name not in fields:
            mistakes.append(f"unknown setting '{shortened(name)}': {did_you_mean(name, fields)}")
        elif name in values:
            mistakes.append(f"{name} is set twice")
        else:
            try:
                values[name] = _convert(text.strip(), types[name])
                several = isinstance(values[name], tuple)
                for value in values[name] if several else (values[name],):
                    _check(value, fields[name].metadata)
            except ValueError as error:
                mistakes.append(f"{shortened(assignment)}: {error}")
    if mistakes:
        raise SettingError("\n".join(mistakes))
    return cls(**values) if before is None else dataclasses.replace(before, **values)  # type: ignore[type-var]


def changed(before: Any, after: Any) -> list[str]:
    """Return the changes that a resumed run cannot have and stay exact, in words."""
    found = []
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new and not field.metadata["may_change"]:
            found.append(f"{field.name} is {_show(new)} and was {_show(old)}")
    return found


def saved(cls: type[Settings], config: Mapping[str, Any]) -> Settings:
    """Settings from the content of a run's ``config.json``; others are a `ParameterError`."""
    try:
        given = config.get("settings")
        if not isinstance(given, dict):
            raise TypeError(f"they are {type(given).__name__}, no object")
        types = get_type_hints(cls)
        values = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            name, type_ = field.name, types[field.name]
            if name not in given:
                continue
            if get_origin(type_) is tuple and isinstance(given[name], list):
                (type_, _) = get_args(type_)
                rules = (type_, field.metadata)
                values[name] = tuple(_checked(name, part, *rules) for part in given[name])
            else:
                values[name] = _checked(name, given[name], type_, field.metadata)
        return cls(**{**given, **values})
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"config.json does not hold this experiment's settings: {error}"
        ) from None


def _checked(name: str, value: Any, type_: Any, rules: Any) -> Any:
    """A setting's value as JSON has it; a `ValueError` if it is of another type or out of range."""
    kinds = (get_args(type_) if get_origin(type_) is not tuple else ()) or (type_,)
    # to Python a bool is an int; an int is taken for a float
    if type(value) not in kinds and not (float in kinds and type(value) is int):
        expected = " or ".join("none" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"{name} is {shortened(repr(value))}; expected {expected}")
    try:
        _check(value, rules)
    except ValueError as error:
        raise ValueError(f"{name} is {shortened(repr(value))}: {error}") from None
    return value


def _convert(text: str, type_: Any) -> Any:
    if get_origin(type_) is tuple:
        values = tuple(_convert(part.strip(), get_args(type_)[0]) for part in text.split(","))
        if len(set(values)) < len(values):
            raise ValueError("a value stands there twice")
        return values
    kinds = get_args(type_) or (type_,)
    if type(None) in kinds:
        if text.lower() == "none":
            return None
        (type_,) = (kind for kind in kinds if kind is not type(None))
    if type_ is bool:
        if text.lower() in TRUE + FALSE:
            return text.lower() in TRUE
        raise ValueError(f"'{shortened(text)}' is neither true nor false")
    try:
        value = int(text.replace(",", "").replace("_", "")) if type_ is int else type_(text)
    except ValueError:
        kind = "a whole number" if type_ is int else "a number"
        raise ValueError(f"'{shortened(text)}' is not {kind}") from None
    if type_ is float and not math.isfinite(value):
        raise ValueError(f"'{shortened(text)}' is not a finite number")
    return value


def _check(value: Any, rules: Any) -> None:
    if value is None:
        return
    if rules["choices"] is not None and value not in rules["choices"]:
        raise ValueError(
            f"'{shortened(value)}' is unknown: {did_you_mean(value, rules['choices'])}"
        )
    if isinstance(value, int) and abs(value) > MOST_WHOLE:
        raise ValueError("it must have at most 30 digits")
    if rules["least"] is not None and value < rules["least"]:
        raise ValueError(f"it must be at least {rules['least']:g}")
    if rules["most"] is not None and value > rules["most"]:
        raise ValueError(f"it must be at most {rules['most']:,.0f}")
    if rules["above"] is not None and value <= rules["above"]:
        raise ValueError(f"it must be above {rules['above']:g}")


def describe(cls: type[Any]) -> list[tuple[str, str, str]]:
    """Name, default and help of every setting, as text."""
    return [
        (field.name, field.metadata["shown"] or _show(field.default), field.metadata["help"])
        for field in dataclasses.fields(cls)
    ]


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_show, value))
    return str(value).lower() if isinstance(value, bool) else f"{value}"
