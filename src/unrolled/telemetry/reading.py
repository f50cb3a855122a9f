"""Read ``telemetry.jsonl`` and ``metrics.jsonl`` line by line, whole or damaged.

A run may have been killed in the middle of a line, a disk may have been full, a file may
have been edited by hand. What is whole is used; what is not is skipped, and counted.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from unrolled.errors import RunError
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord

TELEMETRY, METRICS, NOTES = "telemetry.jsonl", "metrics.jsonl", "notes.json"

LONGEST_LINE = 64 * 2**20
"""Bytes. A longer line is no record: a damaged file must not fill the memory."""

LINES_NAMED = 8
"""Places in a file, lines or spans of lines, that a message names at most."""

OLD_NAMES = {
    "fall_per_step": "decay_per_step",
    "reach": "horizon_steps",
    "borders": "truncation_points",
    "weight_gradient_split": "weight_gradient_per_step",
}
"""Fields of layers as runs of before 0.1.0 called them."""

T = TypeVar("T")


def read_jsonl(path: str | Path) -> tuple[Iterator[dict[str, Any]], list[int]]:
    r"""The objects of a file with one JSON object a line, one at a time.

    Args:
        path: the file.

    Returns:
        An iterator over the objects, and the numbers (from 1) of the lines that are none;
        the list grows while the iterator runs and is complete at its end. Empty lines are
        neither.

    Raises:
        RunError: the file cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write('{"step": 1}\n{"step": 2\n\n{"step": 3}\n')
        ...     file.flush()
        ...     records, skipped = read_jsonl(file.name)
        ...     list(records), skipped
        ([{'step': 1}, {'step': 3}], [2])
    """
    return _read(Path(path), _identity)


def read_telemetry(path: str | Path) -> tuple[Iterator[TelemetryRecord], list[int]]:
    """The records of a ``telemetry.jsonl``, one at a time, as `read_jsonl` does.

    Objects that are no records (a field of the wrong type, a step that is no number) are
    skipped too. Numbers that were NaN or infinite, null in the file, are None; NaN in lists.

    Raises:
        RunError: the file cannot be opened.
    """
    return _read(Path(path), to_record)


def read_parts(
    path: str | Path, every: int = 1
) -> tuple[Iterator[tuple[str, TelemetryRecord]], list[int]]:
    """The same for runs that train several models: with each record the name of its model.

    The name is ``""`` where the run has only one. Of ``every`` lines one is read, for whoever
    is in a hurry.

    Raises:
        RunError: the file cannot be opened.
    """
    return _read(Path(path), lambda data: (str(data.get("part") or ""), to_record(data)), every)


def to_record(data: dict[str, Any]) -> TelemetryRecord:
    """A record from what JSON gave.

    Raises:
        ValueError: the data is no record.

    Example:
        >>> to_record({"step": 7, "loss": 3.3}).loss
        3.3
        >>> to_record({"step": 7, "loss": "high"})
        Traceback (most recent call last):
        ...
        ValueError: loss is 'high', no number
    """
    if type(data.get("step")) is not int:
        raise ValueError("it has no step")
    data = {"epoch": None, "loss": None, "gradient_norm": None, **data}
    for name in ("epoch", "loss", "gradient_norm", "clipped_norm", "clip_coefficient"):
        _number(name, data.get(name))
    _number("clip_threshold", data.get("clip_threshold"))
    for name in ("clip_method", "first_not_finite", "optimizer"):
        _text(name, data.get(name))
    for name in ("learning_rate", "weight_decay", "scaled_late"):
        _number(name, data.get(name))
    unused = data.get("unused", [])
    if not isinstance(unused, list) or not all(isinstance(name, str) for name in unused):
        raise ValueError("unused is no list of names")
    data["parameters"] = {
        name: {"gradient_norm": None, **_fields(part, ())}
        for name, part in _object(data, "parameters").items()
    }
    lists = ("hidden_gradient_mean", "hidden_gradient_max", "weight_gradient_per_step")
    data["layers"] = {
        name: {
            "hidden_gradient_mean": [],
            "hidden_gradient_max": [],
            "decay_per_step": None,
            "horizon_steps": None,
            "saturated": None,
            **_fields(part, lists),
        }
        for name, part in _object(data, "layers").items()
    }
    return TelemetryRecord.from_dict(data)


def which_lines(lines: Sequence[int]) -> str:
    """Which lines, in words that a verb follows; of very many places only the first.

    Example:
        >>> which_lines([3]), which_lines([3, 5, 6, 7])
        ('line 3 is', 'lines 3, 5 to 7 are')
    """
    spans: list[list[int]] = []
    for line in lines:
        if spans and spans[-1][-1] == line - 1:
            spans[-1][1:] = [line]
        else:
            spans.append([line])
    texts = [" to ".join(map(str, span)) for span in spans[:LINES_NAMED]]
    more = len(spans) - len(texts)
    if more:
        texts.append(f"and {more} more places ({len(lines)} lines in all)")
    return f"line {texts[0]} is" if len(lines) == 1 else f"lines {', '.join(texts)} are"


def _read(
    path: Path, convert: Callable[[dict[str, Any]], T], every: int = 1
) -> tuple[Iterator[T], list[int]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise RunError(f"'{path}' cannot be read: {error.strerror}") from None
    skipped: list[int] = []

    def records() -> Iterator[T]:
        with file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    _skip_rest(file)
                    skipped.append(number)
                    continue
                if (number - 1) % every or not line.strip():
                    continue
                try:
                    data = json.loads(line)
                    if not isinstance(data, dict):
                        raise ValueError("no object")
                    record = convert(data)
                # JSON nested too deeply is a RecursionError
                except (ValueError, TypeError, RecursionError):
                    skipped.append(number)
                else:
                    yield record

    return records(), skipped


def _skip_rest(file: Any) -> None:
    while (part := file.readline(LONGEST_LINE)) and not part.endswith(b"\n"):
        pass


def _identity(data: dict[str, Any]) -> dict[str, Any]:
    return data


def _object(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name) or {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def _fields(part: Any, lists: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a parameter or layer, every number and list of numbers checked."""
    if not isinstance(part, dict):
        raise ValueError("no object")
    names = {*ParameterRecord.__dataclass_fields__, *LayerRecord.__dataclass_fields__}
    renamed = {OLD_NAMES.get(name, name): value for name, value in part.items()}
    fields = {name: value for name, value in renamed.items() if name in names}
    for name, value in fields.items():
        if name in lists:
            fields[name] = _numbers(name, value)
        elif name == "gates":
            fields[name] = {k: _numbers(k, v) for k, v in _object(part, name).items()}
        elif name == "cell":
            _text(name, value)
        elif name == "truncation_points":
            fields[name] = [int(point) for point in _numbers(name, value)]
        else:
            _number(name, value)
    return fields


def _numbers(name: str, values: Any) -> list[float]:
    if not isinstance(values, list):
        raise ValueError(f"{name} is no list")
    for value in values:
        _number(name, value)
    return [math.nan if value is None else value for value in values]


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str | None):
        raise ValueError(f"{name} is no text")


def _number(name: str, value: Any) -> None:
    if not isinstance(value, int | float | None):
        raise ValueError(f"{name} is {value!r}, no number")
