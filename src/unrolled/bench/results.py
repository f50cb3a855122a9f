"""Speeds, ratios and shares of the machine's limit from the timings of a race: `result`."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unrolled.bench.race import Race


@dataclass(frozen=True)
class Ratio:
    """How many times as long as the yardstick's a turn is: median and middle half of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float], yardstick: Sequence[float]) -> "Ratio":
        """Compare turns of the same round."""
        ratios = [a / b for a, b in zip(seconds, yardstick, strict=False)]
        if len(ratios) < 2:
            return cls(ratios[0], ratios[0], ratios[0])
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Row:
    """One competitor."""

    name: str
    title: str
    ms: float  # of a piece of work, the median
    units_per_s: float  # the same as a speed
    ratio: Ratio
    gflop_per_s: float | None  # operations of the model, not those really done; None: not counted
    share: float | None  # of the machine's limit; None: not measured
    seconds: list[float]  # of a piece of work in every round


@dataclass(frozen=True)
class Product:
    """The bare matrix product by one library, measured in the same turns."""

    name: str
    title: str
    gflop_per_s: float


@dataclass(frozen=True)
class Result:
    """A race's table: competitors in the order of their turns, and why others did not run."""

    title: str
    facts: dict[str, Any]
    unit: str
    rounds: int
    pieces: int  # of work in a turn
    yardstick: str  # title of what the ratios refer to
    rows: list[Row]
    products: list[Product]
    failed: dict[str, str]


def result(race: Race) -> Result | None:
    """The table of a race as far as it got; None if no round was finished."""
    rounds = race.rounds
    if not rounds:
        return None
    seconds = {name: taken[:rounds] for name, taken in race.seconds.items()}
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    present = [e for e in race.entrants if e.name in seconds]
    gflops = {e.name: e.operations / medians[e.name] * 1e-9 for e in present}
    products = [Product(e.name, e.title, gflops[e.name]) for e in present if e.is_limit]
    limit = max((product.gflop_per_s for product in products), default=None)
    runners = [e for e in present if not e.is_limit] or present
    rows = []
    for e in runners:
        speed = gflops[e.name]
        rows.append(
            Row(
                name=e.name,
                title=e.title,
                ms=medians[e.name] * 1e3,
                units_per_s=e.units / medians[e.name],
                ratio=Ratio.of(seconds[e.name], seconds[runners[0].name]),
                gflop_per_s=speed or None,
                share=speed / limit if speed and limit else None,
                seconds=seconds[e.name],
            )
        )
    return Result(
        title=race.title,
        facts=race.facts,
        unit="tokens",
        rounds=rounds,
        pieces=race.pieces,
        yardstick=runners[0].title,
        rows=rows,
        products=products,
        failed=race.failed,
    )
