"""Downsample curves and heatmaps of any length without losing peaks.

A line of a million steps has more points than a screen has columns. Both classes take the
points as they come and group them: when there are twice as many groups as the limit, two
neighbours become one. Memory is constant, and no peak is lost: a group knows its smallest and
largest value.
"""

import math
from collections.abc import Sequence
from typing import Any

from unrolled.report.spec import Series


def finite(value: Any) -> float | None:
    """The value if it is a finite number, else None.

    Example:
        >>> finite(3), finite(float("nan")), finite("3"), finite(10**400)
        (3, None, None, None)
    """
    if type(value) is float:
        return value if value - value == 0 else None  # infinity minus itself is NaN
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


class Line:
    """A curve of fewer than ``2 * limit`` groups of equally many points.

    Values that are None, NaN or infinite leave a gap. Where ``x`` goes back (a run that was
    taken up again from an earlier step), what came after is dropped.

    Args:
        limit: groups to keep at least, once there are so many points.

    Attributes:
        width: points of a full group.
        last: the latest finite value; None: there was none.

    Example:
        >>> line = Line(limit=2)
        >>> for step in range(8):
        ...     line.add(step, step * step)
        >>> series = line.series("square")
        >>> series.x, series.y
        ([1.5, 5.5], [3.5, 31.5])
        >>> series.low, series.high
        ([0, 16], [9, 49])
    """

    def __init__(self, limit: int = 500) -> None:
        self.limit = limit
        self.width = 1
        self.last: float | None = None
        self._groups: list[_Group] = []  # full ones
        self._open: _Group | None = None
        self._last_x = -math.inf

    def add(self, x: float, y: float | None) -> None:
        """Add a point to the right."""
        if x <= self._last_x:
            self._go_back(x)
        self._last_x = x
        value = finite(y)
        self.last = self.last if value is None else value
        point = (1, x, value, value, value)
        self._open = point if self._open is None else _joined(self._open, point)
        if self._open[0] == self.width:
            self._groups.append(self._open)
            self._open = None
            if len(self._groups) == 2 * self.limit:
                pairs = zip(self._groups[::2], self._groups[1::2], strict=True)
                self._groups = [_joined(*pair) for pair in pairs]
                self.width *= 2

    @property
    def known(self) -> bool:
        """Whether any value was finite."""
        return self.last is not None

    def _go_back(self, x: float) -> None:
        self._open = None
        while self._groups and self._groups[-1][1] >= x:
            self._groups.pop()

    def series(self, label: str, colour: int | str = 0, dash: str = "solid") -> Series:
        """The curve to draw: means, and where groups have many points their extremes."""
        groups = self._groups if self._open is None else [*self._groups, self._open]
        _, x, mean, low, high = map(list, zip(*groups, strict=True)) if groups else [[]] * 5
        if self.width == 1:
            low, high = [], []
        return Series(label, x, mean, low, high, colour, dash)


_Group = tuple[int, float, float | None, float | None, float | None]
"""Points, mean x, and of the finite values mean, smallest, largest; None: there is none."""


def _joined(left: _Group, right: _Group) -> _Group:
    n, m = left[0], right[0]
    x = (left[1] * n + right[1] * m) / (n + m)
    if left[2] is None or right[2] is None:
        return (n + m, x, *(right if left[2] is None else left)[2:])
    mean = (left[2] * n + right[2] * m) / (n + m)
    return n + m, x, mean, min(left[3], right[3]), max(left[4], right[4])  # type: ignore[type-var]


class Spans:
    """Stretches of x in which something held: fewer than ``2 * limit``, neighbours joined.

    Args:
        limit: stretches to keep at least, once there are so many.

    Attributes:
        count: how often it held.
        first: where it held first; None: nowhere.

    Example:
        >>> spans = Spans()
        >>> for step, bad in enumerate([False, True, True, False, True], 1):
        ...     spans.add(step, bad)
        >>> spans.found, spans.count, spans.first
        ([[2, 3], [5, 5]], 3, 2)
    """

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.count = 0
        self.first: float | None = None
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
            if len(self.found) == 2 * self.limit:
                pairs = zip(self.found[::2], self.found[1::2], strict=True)
                self.found = [[a[0], b[1]] for a, b in pairs]
        self._goes_on = held


class Columns:
    """A picture of at most ``2 * limit`` columns; each is the mean of neighbouring ones.

    Args:
        limit: columns to keep at least, once there are so many.

    Example:
        >>> picture = Columns(limit=1)
        >>> for step in range(4):
        ...     picture.add(step, [step, 10.0 * step])
        >>> picture.x, picture.values
        ([0.5, 2.5], [[0.5, 5.0], [2.5, 25.0]])
    """

    def __init__(self, limit: int = 150) -> None:
        self.limit = limit
        self.width = 1
        self.x: list[float] = []
        self.values: list[list[float | None]] = []
        self._counts: list[int] = []

    def add(self, x: float, column: Sequence[float | None]) -> None:
        """Add a column to the right."""
        while self.x and self.x[-1] >= x:
            self._pop()
        values = [v if type(v) is float and v - v == 0 else finite(v) for v in column]
        if self.x and self._counts[-1] < self.width:
            self._absorb(-1, x, values, 1)
            return
        if len(self.x) == 2 * self.limit:
            for i in range(0, len(self.x), 2):
                self._absorb(i, self.x[i + 1], self.values[i + 1], self._counts[i + 1])
            del self.x[1::2], self.values[1::2], self._counts[1::2]
            self.width *= 2
        self.x.append(x)
        self.values.append(values)
        self._counts.append(1)

    def _absorb(self, i: int, x: float, values: Sequence[float | None], count: int) -> None:
        own, both = self._counts[i], self._counts[i] + count
        self.x[i] = (self.x[i] * own + x * count) / both
        length = max(len(self.values[i]), len(values))
        pairs = zip(_padded(self.values[i], length), _padded(values, length), strict=True)
        self.values[i] = [
            (b if a is None else a) if a is None or b is None else (a * own + b * count) / both
            for a, b in pairs
        ]
        self._counts[i] = both

    def _pop(self) -> None:
        self.x.pop()
        self.values.pop()
        self._counts.pop()


def _padded(values: Sequence[float | None], length: int) -> list[float | None]:
    return [*values, *[None] * (length - len(values))]
