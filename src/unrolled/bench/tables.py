"""Tables of benchmark results for the terminal and in Markdown."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unrolled.bench.results import Result, Row


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    head: tuple[str, str]  # its two lines
    width: int  # in characters
    cell: Callable[[Row], str]
    rank: int  # the higher, the sooner it is left out where the terminal is narrow


COLUMNS = (
    Column(("ms a", "minibatch"), 10, lambda row: _short(row.ms), 2),
    Column(("thousand", "tokens/s"), 10, lambda row: _short(row.units_per_s / 1000), 0),
    Column(("times", "as long"), 9, lambda row: _short(row.ratio.median), 0),
    Column(
        ("middle half", "of rounds"),
        16,
        lambda row: f"{_short(row.ratio.low)} to {_short(row.ratio.high)}",
        3,
    ),
    Column(("of the", "limit"), 7, lambda row: "" if row.share is None else f"{row.share:.0%}", 1),
)


def _short(number: float) -> str:
    """Three digits at least, two behind the point at most: 0.76, 23.2, 1234."""
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f}"


def text(result: Result, width: int = 80) -> list[str]:
    """Lines no wider than the terminal, as far as that can be."""
    first = max(len(row.title) for row in result.rows)
    columns = list(COLUMNS)
    while len(columns) > 2 and first + sum(c.width for c in columns) > width:
        columns.remove(max(columns, key=lambda column: column.rank))
    lines = wrapped(heading(result), width)
    for i in range(2):
        lines.append("".join([" " * first, *(c.head[i].rjust(c.width) for c in columns)]))
    for row in result.rows:
        lines.append(
            "".join([f"{row.title:<{first}}", *(c.cell(row).rjust(c.width) for c in columns)])
        )
    return [*lines, *(line for note in notes(result) for line in wrapped(note, width))]


def markdown(result: Result) -> list[str]:
    """The same as a table of Markdown."""
    heads = [" ".join(c.head) for c in COLUMNS]
    lines = [
        f"**{heading(result)}**",
        "",
        f"| | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for row in result.rows:
        lines.append(f"| {row.title} | {' | '.join(c.cell(row) for c in COLUMNS)} |")
    return [*lines, "", *notes(result)]


def heading(result: Result) -> str:
    """What was measured: sizes, threads, rounds."""
    facts = result.facts
    sizes = ", ".join(f"{name} = {facts[name]}" for name in "BTV" if name in facts)
    threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
    where = "on the GPU" if facts.get("gpu") else threads
    return f"{result.title} ({sizes}; {where}; {result.rounds} rounds of {result.pieces})"


def notes(result: Result) -> list[str]:
    """What the ratios refer to, the machine's limit, and who failed."""
    lines = [f"times as long as {result.yardstick}, in the same round."]
    if result.products:
        each = ", ".join(f"{p.title} {p.gflop_per_s:.0f}" for p in result.products)
        lines.append(f"limit, float32: the fastest matrix product, GFLOP/s: {each}.")
    lines += [f"failed: {name}: {reason}" for name, reason in result.failed.items()]
    return lines


def absences(absent: Mapping[str, str], width: int = 80) -> list[str]:
    """Who is absent, and why; those of one reason together.

    Example:
        >>> absences({"a": "no X", "b": "no Y", "c": "no X"})
        ['absent: a, c: no X', 'absent: b: no Y']
    """
    reasons = dict.fromkeys(absent.values())
    names = {r: ", ".join(n for n, reason in absent.items() if reason == r) for r in reasons}
    return [line for r in reasons for line in wrapped(f"absent: {names[r]}: {r}", width)]


def wrapped(line: str, width: int) -> list[str]:
    """Lines that fit the terminal."""
    return textwrap.wrap(line, max(width, 20), subsequent_indent="  ")
