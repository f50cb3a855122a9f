"""Plan the races of ``unrolled bench``: one for each cell and size, or a sweep over sizes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unrolled.bench import limit
from unrolled.bench.competitors import Competitor, chosen
from unrolled.bench.race import Entrant, Race, Ready
from unrolled.bench.tables import absences
from unrolled.bench.task import Competing, Task
from unrolled.errors import SettingError

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
    """The races to run, and the competitors that are absent."""

    races: list[Race]  # one for each table
    absent: dict[str, str]  # why others do not take part, by name


def plan(tasks: Sequence[Task], names: Sequence[str] = ()) -> Plan:
    """A race for each task between these competitors; none named: all.

    Raises:
        SettingError: an unknown competitor, or none of those named is here.
    """
    absent, here = _sorted(chosen(names), tasks[0].gpu)
    races = [
        _race(f"{t.cell.upper()}, H = {t.H}", t, [entrant_of(c, t) for c in here]) for t in tasks
    ]
    return Plan(races, absent)


def sweep(task: Task, names: Sequence[str] = ()) -> Plan:
    """A race for each size, between different values of it; no competitor named: the first."""
    absent, here = _sorted(chosen(names), task.gpu)
    here = here if names else here[:1]
    races = []
    for competitor in here:
        for size, values in SWEEP.items():
            if size == "layers" and not competitor.deep:
                absent[f"{competitor.name}, layers"] = "has one layer only"
                continue
            entrants = []
            for value in values:
                other: dict[str, Any] = {size: value}
                entrant = entrant_of(competitor, replace(task, **other))
                name = f"{size} = {value}"
                entrants.append(replace(entrant, name=name, title=name))
            title = f"{competitor.title_for(task.cell)}: {task.cell.upper()} by {size}"
            races.append(_race(title, task, entrants))
    return Plan(races, absent if names else {})


def _sorted(competitors: list[Competitor], gpu: bool) -> tuple[dict[str, str], list[Competitor]]:
    """Who is absent and why, and who runs here."""
    reasons = {competitor.name: competitor.absent(gpu) for competitor in competitors}
    absent = {name: reason for name, reason in reasons.items() if reason}
    here = [competitor for competitor in competitors if competitor.name not in absent]
    if not here:
        raise SettingError("\n".join(["nobody to measure", *absences(absent)]))
    return absent, here


def _race(title: str, task: Task, entrants: list[Entrant]) -> Race:
    return Race(title, asdict(task), [*entrants, *limit.products(task)])


def entrant_of(competitor: Competitor, task: Task) -> Entrant:
    """A competitor as a race takes it."""

    def start() -> Ready:
        competing: Competing = competitor.start(task)
        return lambda count: competing(task.first(count))

    title = competitor.title_for(task.cell)
    return Entrant(competitor.name, title, start, task.tokens, task.operations)
