"""Plan the races of ``unrolled bench``: one for each cell and size, or a sweep over sizes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from unrolled.bench import limit
from unrolled.bench.competitors import Competitor, chosen
from unrolled.bench.race import Entrant, Race, Ready
from unrolled.bench.tables import absences
from unrolled.bench.task import Competing, Task
from unrolled.errors import SettingError, did_you_mean
from unrolled.functional.recurrent import CELLS

SWEEP = {
    "H": (512, 128, 256, 1024, 2048),
    "T": (35, 9, 18, 70, 140),
    "B": (32, 1, 8, 64, 128),
    "V": (28, 256, 2048, 16384),
    "layers": (1, 2, 3, 4),
}
"""Sizes to vary one at a time; the first of each is the one of all other rows."""


@dataclass(frozen=True)
class Plan:
    """What to race, and who cannot.

    Attributes:
        races: one for each table.
        here: competitors of this process.
        absent: why others do not take part, by name.
    """

    races: list[Race]
    here: list[Competitor]
    absent: dict[str, str]


def plan(tasks: Sequence[Task], names: Sequence[str] = ()) -> Plan:
    """A race for each task.

    Args:
        tasks: what to train.
        names: of the competitors; none for all.

    Raises:
        SettingError: an unknown competitor, or none of those named is here.
    """
    absent, here = _sorted(chosen(names), tasks[0].gpu)
    races = [
        _race(f"{t.cell.upper()}, H = {t.H}", t, [_entrant(c, t) for c in here], here)
        for t in tasks
    ]
    return Plan(races, here, absent)


def sweep(task: Task, names: Sequence[str] = ()) -> Plan:
    """A race for each size, between different values of it.

    Args:
        task: the sizes that stay.
        names: of the competitors; none for ours on its first framework.
    """
    absent, here = _sorted(chosen(names), task.gpu)
    here = here if names else here[:1]
    races = []
    for competitor in here:
        for size, values in SWEEP.items():
            if size == "layers" and not competitor.deep:
                absent[f"{competitor.name}, layers"] = "has one layer only"
                continue
            tasks = {f"{size} = {value}": _with(task, size, value) for value in values}
            entrants = [
                replace(_entrant(competitor, t), name=title, title=title)
                for title, t in tasks.items()
            ]
            title = f"{competitor.title_for(task.cell)}: {task.cell.upper()} by {size}"
            races.append(_race(title, task, entrants, [competitor]))
    return Plan(races, here, absent if names else {})


def _with(task: Task, size: str, value: int) -> Task:
    other: dict[str, Any] = {size: value}
    return replace(task, **other)


def check(cells: Sequence[str], **sizes: int) -> None:
    """Make sure that there are such cells, and that sizes are at least 1.

    Raises:
        SettingError: not so.
    """
    for cell in cells:
        if cell not in CELLS:
            raise SettingError(f"unknown cell '{cell}': {did_you_mean(cell, CELLS)}")
    for name, size in sizes.items():
        if size < 1:
            raise SettingError(f"{name} is {size}; it must be at least 1")


def _sorted(competitors: list[Competitor], gpu: bool) -> tuple[dict[str, str], list[Competitor]]:
    """Who is absent and why, and who runs here."""
    reasons = {competitor.name: competitor.absent(gpu) for competitor in competitors}
    absent = {name: reason for name, reason in reasons.items() if reason}
    here = [competitor for competitor in competitors if competitor.name not in absent]
    if not here:
        raise SettingError("\n".join(["nobody to measure", *absences(absent)]))
    return absent, here


def _race(title: str, task: Task, entrants: list[Entrant], here: list[Competitor]) -> Race:
    products = limit.products(task, {competitor.precision for competitor in here})
    return Race(title, task.as_json(), [*entrants, *products])


def _entrant(competitor: Competitor, task: Task) -> Entrant:
    def start() -> Ready:
        competing: Competing = competitor.start(task)
        return lambda count: competing(task.first(count))

    title = competitor.title_for(task.cell)
    return Entrant(
        competitor.name, title, start, task.tokens, task.operations, competitor.precision
    )
