"""Specifications of charts and heatmaps as plain data: `Chart`, `Heatmap` and their parts.

The same specification is drawn by ``static/unrolled.js`` (the report, the notebook) and by
`unrolled.report.figures` (PNG and PDF).
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Number = float | None
"""A value to draw; None leaves a gap."""

DIGITS = 5
"""Significant digits that go into a file: more than a screen can show."""

DECADES = 10
"""Decades that the colours of a heatmap span at most."""

ROOM = 0.05
"""Share of an axis that stays free at both ends where charts share its range."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: what it shows, its scale and range."""

    title: str  # with the unit
    scale: str = "linear"  # or "log", at whose foot values of 0 are drawn
    limits: tuple[Number, Number] | None = None  # (low, high); None, or either end None, adapts
    whole: bool = False  # only whole numbers mean something, as for steps


@dataclass(frozen=True, slots=True)
class Series:
    """A line: a value for each x, and perhaps a band around it."""

    label: str
    x: Sequence[float]  # increasing
    y: Sequence[Number]
    low: Sequence[Number] = ()  # the band, such as the extremes of averaged points
    high: Sequence[Number] = ()
    colour: int | str = 0  # place in the palette of `unrolled.report.style`, or a CSS colour
    dash: str = "solid"  # a name in `unrolled.report.style.DASHES`


@dataclass(frozen=True, slots=True)
class Mark:
    """A straight line across the picture: upright at a value of x, or level at one of y."""

    axis: str  # "x" or "y"
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Shade:
    """A shaded stretch of the x axis; drawn a few pixels wide at least."""

    start: float
    end: float
    label: str  # stretches with the same label share a key in the legend
    colour: int | str = ""  # as of a Series; "" is the colour of serious findings


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over two axes."""

    id: str  # for links and files, lower case
    title: str
    x: Axis
    y: Axis
    series: list[Series]
    marks: list[Mark] = field(default_factory=list)
    caption: str = ""  # how to read it
    note: str = ""  # what is not shown as it was recorded: left out, cut off, or averaged
    shades: list[Shade] = field(default_factory=list)
    group: str = ""  # pictures of one group stand side by side; "": it stands alone

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, numbers rounded to `DIGITS`."""
        return {"kind": "chart", **plain(self)}

    def summary(self) -> list[tuple[str, ...]]:
        """The lines in words: label, first, smallest, largest, last.

        Example:
            >>> line = Series("train", [1, 2, 3], [4.0, None, 1.5])
            >>> Chart("loss", "Loss", Axis("epoch"), Axis("loss"), [line]).summary()
            [('train', '4', '1.5 at 3', '4 at 1', '1.5')]
        """
        rows = []
        for line in self.series:
            points = _points(line.x, line.y)
            if points:
                extremes = (
                    min(_points(line.x, line.low) or points),
                    max(_points(line.x, line.high) or points, key=lambda point: point[0]),
                )
                at = [f"{show(y)} at {show(x)}" for y, x in extremes]
                rows.append((line.label, show(points[0][0]), *at, show(points[-1][0])))
            else:
                rows.append((line.label, *["no finite value"] * 4))
        return rows


def _points(x: Sequence[float], y: Sequence[Number]) -> list[tuple[float, float]]:
    return [(b, a) for a, b in zip(x, y, strict=False) if b is not None]


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A number for each pair of x and y, as colour; fields without a comment as of a `Chart`."""

    id: str
    title: str
    x: Axis
    y: Axis
    z: Axis  # of the colours
    columns: Sequence[float]  # x of each, increasing
    rows: Sequence[float]  # y of each, increasing
    values: Sequence[Sequence[Number]]  # values[column][row]; None stays empty
    map: str = "sequential"  # or "diverging" around 0
    overlays: list[Series] = field(default_factory=list)  # lines over the picture
    marks: list[Mark] = field(default_factory=list)
    caption: str = ""
    row_labels: Sequence[str] = ()  # names of the rows, where they are no numbers
    column_labels: Sequence[str] = ()
    note: str = ""
    shades: list[Shade] = field(default_factory=list)
    group: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; the range of the colours is worked out."""
        limits = dict(zip(("low", "high"), self.range(), strict=True))
        return {"kind": "heatmap", **plain(self), "range": plain(limits)}

    def range(self) -> tuple[float, float]:
        """Smallest and largest value for the colours: positive on a log scale.

        A log scale spans `DECADES` at most, so that a few tiny values do not take
        all colours; what is below has the colour of the smallest.
        """
        low, high = self.z.limits or (None, None)
        found = [v for column in self.values for v in column if v is not None]
        if self.z.scale == "log":
            found = [v for v in found if v > 0]
        if self.map == "diverging":
            size = high or max(map(abs, found), default=1.0) or 1.0
            return -size, size
        high = max(found, default=1.0) if high is None else high
        low = min(found, default=high) if low is None else low
        if self.z.scale == "log":
            low = max(low, high / 10**DECADES)
        return (low, high) if low < high else (low * 0.5, high * 2 or 1.0)

    def summary(self) -> list[tuple[str, ...]]:
        """Some columns in numbers, from the top row to the bottom row: see `summary_rows`."""
        n = len(self.columns)
        picked = sorted({round(i * (n - 1) / 4) for i in range(5)}) if n else []
        places = [r for r in self.summary_rows() if r < len(self.rows)]
        names = self.column_labels or [show(x) for x in self.columns]
        return [
            (names[i], *[show(v[r]) if r < len(v) else "" for r in places])
            for i, v in ((i, self.values[i]) for i in picked)
        ]

    def summary_rows(self) -> list[int]:
        """Which rows `summary` shows: the last, those in between by quarters, the first."""
        last = len(self.rows) - 1
        if last < 0:
            return []
        return list(dict.fromkeys(round(last * part / 4) for part in (4, 3, 2, 1, 0)))


Picture = Chart | Heatmap


def rows(pictures: Iterable[Picture]) -> list[list[Picture]]:
    """Pictures that stand side by side, row by row: neighbours of one group."""
    found = itertools.groupby(pictures, lambda picture: picture.group or f"#{picture.id}")
    return [list(row) for _, row in found]


def on_same_axes(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures with one scale and range for all axes of the same title."""
    held: list[Any] = list(pictures)
    for name in ("x", "y", "z"):
        axes: list[Any] = [getattr(picture, name, None) for picture in held]
        for title in {axis.title for axis in axes if axis is not None}:
            mine = [i for i, axis in enumerate(axes) if axis is not None and axis.title == title]
            scale = "log" if any(axes[i].scale == "log" for i in mine) else "linear"
            values = [v for i in mine for v in _values(held[i], name)]
            room = ROOM if name == "y" and isinstance(held[mine[0]], Chart) else 0.0
            limits = _limits([axes[i].limits for i in mine], values, scale, room)
            for i in mine:
                axis = replace(axes[i], scale=scale, limits=limits)
                held[i] = replace(held[i], **{name: axis})
    return held


def _values(picture: Picture, name: str) -> list[float]:
    """All that stands on an axis; of a heatmap its ends."""
    if isinstance(picture, Heatmap):
        if name == "z":
            return list(picture.range())
        return edges(picture.columns if name == "x" else picture.rows)
    lines = (s.x if name == "x" else (*s.y, *s.low, *s.high) for s in picture.series)
    marks = (mark.at for mark in picture.marks if mark.axis == name)
    return [v for line in (*lines, marks) for v in line if v is not None]


def _limits(
    given: Sequence[tuple[Number, Number] | None], values: list[float], scale: str, room: float
) -> tuple[float, float] | None:
    """Limits of a shared axis; None if every chart adapts, which gives all the same."""
    if not values:
        return None
    low, high = min(values), max(values)
    if scale == "log":
        zero = foot(values)
        low = zero or low
        high = max(high, low)
        step = (high / low) ** room
        low, high = zero or low / step, high * step
    else:
        step = (high - low) * room
        low, high = low - step, high + step
    lows, highs = (
        [v for limits in given if limits is not None and (v := limits[end]) is not None]
        for end in (0, 1)
    )
    low = min(lows) if len(lows) == len(given) else low
    high = max(highs) if len(highs) == len(given) else high
    return (low, high) if low < high else None


def edges(centres: Sequence[float]) -> list[float]:
    """Halfway between neighbours: of ``[1, 2, 4]`` it is ``[0.5, 1.5, 3.0, 5.0]``."""
    if len(centres) < 2:
        return [c + d for c in centres for d in (-0.5, 0.5)]
    inner = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    return [2 * centres[0] - inner[0], *inner, 2 * centres[-1] - inner[-1]]


def isolated(values: Sequence[Number]) -> list[int]:
    """Places of values without a neighbour, of which a line alone would show nothing."""
    framed = [None, *values, None]
    return [i for i, v in enumerate(values) if v is not None and framed[i] is framed[i + 2] is None]


def foot(values: Iterable[Number]) -> float | None:
    """Place of 0 on a log axis, a decade below the smallest value; None if there is no 0."""
    known = [v for v in values if v is not None]
    positive = [v for v in known if v > 0]
    if len(positive) == len(known):
        return None
    return float(10.0 ** (math.floor(math.log10(min(positive))) - 1)) if positive else 0.1


def show(value: Number) -> str:
    """A number for people.

    Example:
        >>> show(0.0), show(3), show(12345.678), show(2.5e-7), show(None)
        ('0', '3', '12,346', '2.5e-7', 'none')
    """
    if value is None:
        return "none"
    if value != 0 and not 1e-3 <= abs(value) < 1e7:
        head, _, exponent = f"{value:.3g}".partition("e")
        return f"{head}e{int(exponent)}" if exponent else head
    if abs(value) >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def plain(value: Any) -> Any:
    """Plain data for JSON: numbers are rounded to `DIGITS`; NaN and infinity become None."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(part) for part in value]
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    if value == int(value) and abs(value) < 1e9:
        return int(value)
    return float(f"{value:.{DIGITS}g}")
