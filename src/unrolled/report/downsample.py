"""Downsample curves and heatmaps of any length without losing peaks: `Line`, `Columns`, `Spans`.

Points are taken as they come, so that a file of any length needs little memory.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from unrolled.report.spec import Number, Series

V = TypeVar("V")

MOST_SPANS = 200


def finite(value: Any) -> float | None:
    """The value if it is a finite number, else None."""
    if type(value) is float:
        return value if value - value == 0 else None  # infinity minus itself is NaN
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


class Groups(Generic[V]):
    """Neighbouring points as groups, of which there are at most ``2 * limit``.

    Before there are more, every two neighbours become one. Where x goes back (a run that was
    taken up again from an earlier step), what came after is dropped.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.width = 1  # points of a full group; the last may have fewer
        self._groups: list[tuple[int, float, V]] = []  # number of points, mean x, value

    def _take(self, x: float, value: V) -> None:
        """Add a point to the right."""
        while self._groups and self._groups[-1][1] >= x:
            self._groups.pop()
        point = (1, x, value)
        if self._groups and self._groups[-1][0] < self.width:
            self._groups[-1] = self._joined(self._groups[-1], point)
            return
        if len(self._groups) == 2 * self.limit:
            pairs = zip(self._groups[::2], self._groups[1::2], strict=True)
            self._groups = [self._joined(*pair) for pair in pairs]
            self.width *= 2
        self._groups.append(point)

    def _joined(self, a: tuple[int, float, V], b: tuple[int, float, V]) -> tuple[int, float, V]:
        (n, x, left), (m, z, right) = a, b
        return n + m, (x * n + z * m) / (n + m), self._merged(left, n, right, m)

    def _merged(self, left: V, n: int, right: V, m: int) -> V:
        """The value of a group of n points and one of m together."""
        raise NotImplementedError


def _mean(a: Number, n: int, b: Number, m: int) -> Number:
    if a is None or b is None:
        return b if a is None else a
    return (a * n + b * m) / (n + m)


class Line(Groups[tuple[Number, Number, Number]]):
    """A curve; values that are None, NaN or infinite leave a gap."""

    def __init__(self, limit: int = 500) -> None:
        super().__init__(limit)
        self.last: float | None = None  # the latest finite value

    def add(self, x: float, y: float | None) -> None:
        """Add a point to the right."""
        value = finite(y)
        self.last = self.last if value is None else value
        self._take(x, (value, value, value))

    @property
    def known(self) -> bool:
        """Whether any value was finite."""
        return self.last is not None

    def _merged(
        self, left: tuple[Number, ...], n: int, right: tuple[Number, ...], m: int
    ) -> tuple[Number, Number, Number]:
        low, high = ([v for v in (left[i], right[i]) if v is not None] for i in (1, 2))
        return _mean(left[0], n, right[0], m), min(low, default=None), max(high, default=None)

    def series(self, label: str, colour: int | str = 0, dash: str = "solid") -> Series:
        """The curve to draw: means, and where groups have many points their extremes."""
        x = [x for _, x, _ in self._groups]
        mean, low, high = ([value[i] for _, _, value in self._groups] for i in range(3))
        if self.width == 1:
            low, high = [], []
        return Series(label, x, mean, low, high, colour, dash)


class Columns(Groups[Sequence[Number]]):
    """The columns of a heatmap, each the mean of neighbouring ones."""

    def __init__(self, limit: int = 150) -> None:
        super().__init__(limit)

    def add(self, x: float, column: Sequence[float | None]) -> None:
        """Add a column to the right."""
        self._take(x, [finite(v) for v in column])

    @property
    def x(self) -> list[float]:
        return [x for _, x, _ in self._groups]

    @property
    def values(self) -> list[Sequence[Number]]:
        return [column for _, _, column in self._groups]

    def _merged(
        self, left: Sequence[Number], n: int, right: Sequence[Number], m: int
    ) -> Sequence[Number]:
        return [_mean(a, n, b, m) for a, b in zip_longest(left, right)]


class Spans:
    """Stretches of x in which something held: fewer than `MOST_SPANS`, neighbours joined."""

    def __init__(self) -> None:
        self.count = 0  # how often it held
        self.first: float | None = None  # where it held first
        self.found: list[list[float]] = []
        self._goes_on = False

    def add(self, x: float, held: bool) -> None:
        """Take in the next x; where it goes back, what came after is dropped."""
        while self.found and self.found[-1][0] >= x:
            self.found.pop()
        if held:
            self.count += 1
            self.first = x if self.first is None else min(x, self.first)
            if self._goes_on and self.found:
                self.found[-1][1] = x
            else:
                self.found.append([x, x])
            if len(self.found) == MOST_SPANS:
                pairs = zip(self.found[::2], self.found[1::2], strict=True)
                self.found = [[a[0], b[1]] for a, b in pairs]
        self._goes_on = held
