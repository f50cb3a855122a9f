"""Speeds, ratios and shares of the machine's limit from the timings of a race."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unrolled.bench.race import Race, Timings


@dataclass(frozen=True)
class Ratio:
    """How many times as long as the yardstick's a turn is: median and middle half of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float], yardstick: Sequence[float]) -> "Ratio":
        """Compare turns of the same round.

        Example:
            >>> Ratio.of([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
            Ratio(median=2.0, low=2.0, high=2.5)
        """
        ratios = [a / b for a, b in zip(seconds, yardstick, strict=False)]
        if len(ratios) < 2:
            return cls(ratios[0], ratios[0], ratios[0])
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Row:
    """One competitor.

    Attributes:
        name, title: who.
        ms: of a piece of work, the median.
        units_per_s: the same as a speed.
        ratio: its time beside the yardstick's.
        gflop_per_s: floating point operations, the model's, not what was really done; None
            if nobody counts.
        share: of the machine's limit at this precision; None if that was not measured.
        seconds: of a piece of work in every round.
    """

    name: str
    title: str
    ms: float
    units_per_s: float
    ratio: Ratio
    gflop_per_s: float | None
    share: float | None
    seconds: list[float]


@dataclass(frozen=True)
class Product:
    """The bare matrix product, by one library."""

    name: str
    title: str
    precision: str
    gflop_per_s: float


@dataclass(frozen=True)
class Result:
    """A race's table.

    Attributes:
        title, facts, unit: those of the race.
        rounds, pieces: turns of each, and pieces of work in a turn.
        yardstick: title of what the ratios refer to.
        rows: the competitors, in the order of their turns.
        products: the machine's own product speed, measured in the same turns.
        failed: why a competitor did not run, by name.
    """

    title: str
    facts: dict[str, Any]
    unit: str
    rounds: int
    pieces: int
    yardstick: str
    rows: list[Row]
    products: list[Product]
    failed: dict[str, str]

    def limit(self, precision: str) -> Product | None:
        """The fastest product at a precision."""
        products = [product for product in self.products if product.precision == precision]
        return max(products, key=lambda product: product.gflop_per_s, default=None)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)


def result(race: Race, timings: Timings) -> Result | None:
    """The table of a race as far as it got; None if no round was finished."""
    rounds = timings.rounds
    if not rounds:
        return None
    seconds = {name: taken[:rounds] for name, taken in timings.seconds.items()}
    speeds = {  # operations per second
        e.name: e.operations / statistics.median(seconds[e.name])
        for e in race.entrants
        if e.name in seconds and e.operations
    }
    present = [e for e in race.entrants if e.name in seconds]
    products = [e for e in present if e.is_limit]
    runners = [e for e in present if not e.is_limit] or present
    best: dict[str, float] = {}
    for e in products:
        best[e.precision] = max(best.get(e.precision, 0.0), speeds[e.name])
    rows = []
    for e in runners:
        median = statistics.median(seconds[e.name])
        limit, speed = best.get(e.precision), speeds.get(e.name)
        rows.append(
            Row(
                name=e.name,
                title=e.title,
                ms=median * 1e3,
                units_per_s=e.units / median,
                ratio=Ratio.of(seconds[e.name], seconds[runners[0].name]),
                gflop_per_s=speed * 1e-9 if speed else None,
                share=speed / limit if speed and limit else None,
                seconds=seconds[e.name],
            )
        )
    return Result(
        title=race.title,
        facts=race.facts,
        unit=race.unit,
        rounds=rounds,
        pieces=timings.pieces,
        yardstick=runners[0].title,
        rows=rows,
        products=[Product(e.name, e.title, e.precision, speeds[e.name] * 1e-9) for e in products],
        failed=timings.failed,
    )
