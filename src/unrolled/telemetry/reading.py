"""Read ``telemetry.jsonl`` and ``metrics.jsonl`` line by line, whole or damaged.

A run may have been killed in the middle of a line, a disk may have been full, a file may
have been edited by hand. What is whole is used; what is not is skipped, and counted.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from unrolled.errors import RunError
from unrolled.telemetry.records import TelemetryRecord
from unrolled.untrusted import MOST_GAP, MOST_LINE, open_regular, parse_json

TELEMETRY, METRICS, NOTES = "telemetry.jsonl", "metrics.jsonl", "notes.json"

LINES_NAMED = 8
"""Places in a file, lines or spans of lines, that a message names at most."""


def read_jsonl(
    path: str | Path,
    convert: Callable[[dict[str, Any]], Any] = dict,
    every: int = 1,
    inside: Path | None = None,
) -> tuple[Iterator[Any], list[int]]:
    """Iterate over the objects of a file with one JSON object a line.

    Args:
        path: the file.
        convert: makes of an object what is wanted; a ValueError skips the line.
        every: of so many lines one is read.
        inside: a directory that no link may lead out of; None follows links.

    Returns:
        An iterator, and the numbers (from 1) of the lines that were skipped, empty ones left out;
        the list is complete when the iterator is at its end.

    Raises:
        RunError: the file cannot be opened.
    """
    path = Path(path)
    try:
        file = open_regular(path, inside)
    except OSError as error:
        raise RunError(f"'{path}' cannot be read: {error.strerror}") from None
    skipped: list[int] = []

    def records() -> Iterator[Any]:
        with file:
            for number in count(1):
                line = file.readline(MOST_LINE)
                if not line:
                    return
                if len(line) == MOST_LINE and not line.endswith(b"\n"):
                    skipped.append(number)
                    if not _to_next_line(file):
                        return
                elif (number - 1) % every == 0 and line.strip():
                    try:
                        record = convert(_object(line))
                    except ValueError:
                        skipped.append(number)
                    else:
                        yield record

    return records(), skipped


def read_telemetry(path: str | Path) -> tuple[Iterator[TelemetryRecord], list[int]]:
    """The records of a ``telemetry.jsonl``, one at a time, as `read_jsonl` does."""
    return read_jsonl(path, TelemetryRecord.from_dict)


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


def _to_next_line(file: BinaryIO) -> bool:
    """Go on to the next line of a log; False where none is found in `MOST_GAP` bytes."""
    pieces = (file.readline(MOST_LINE) for _ in range(0, MOST_GAP, MOST_LINE))
    return any(piece.endswith(b"\n") for piece in pieces)


def _object(line: bytes) -> dict[str, Any]:
    data = parse_json(line)
    if not isinstance(data, dict):
        raise ValueError("no object")
    return data
