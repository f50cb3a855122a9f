"""Draw charts with matplotlib, as PNG and PDF.

The same specifications as on the page, in the colours of a light ground.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from unrolled.errors import MissingPackageError, RunError
from unrolled.report.spec import (
    Axis,
    Chart,
    Heatmap,
    Mark,
    Number,
    Picture,
    Shade,
    edges,
    foot,
    isolated,
    rows,
    show,
)
from unrolled.report.style import DASHES, MAPS, PALETTE

SIZE_INCHES = (6.4, 3.8)
DOTS_PER_INCH = 150
MOST_COLUMNS = 4
TITLE_WIDTH = 62  # characters
NOTE_WIDTH = 90
BAND_OPACITY = 0.18
FEW_DECADES = 3
MARK_COLOUR = "#5a6270"
SHADE_COLOUR = "#b3261e"
MOST_TO_AVOID = 2000  # points that a legend makes way for
LEAST_SHADE = 0.005  # of the axis


def check(directory: Path) -> None:
    """Make sure that figures can be drawn and written."""
    new_figure(SIZE_INCHES)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = "it is a file; name a folder" if directory.is_file() else error.strerror
        raise RunError(f"'{directory}' cannot be made: {what}") from None


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure; no window is opened."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError(
            "drawing needs matplotlib; install it with: pip install matplotlib"
        ) from None
    return Figure(figsize=size, layout="constrained")


def save(pictures: Sequence[Picture], directory: Path) -> list[Path]:
    """Write every picture, or those of a group together, as ``<id>.png`` and ``<id>.pdf``.

    The same pictures give the same bytes.

    Raises:
        RunError: a file cannot be written.
    """
    written = []
    for row in rows(pictures):
        columns = min(len(row), MOST_COLUMNS)
        lines = -(-len(row) // columns)
        row = [as_written(picture) for picture in row]
        figure = new_figure((SIZE_INCHES[0] * columns, SIZE_INCHES[1] * lines))
        for number, picture in enumerate(row, 1):
            axes = figure.add_subplot(lines, columns, number)
            draw(axes, picture)
            title = textwrap.fill(picture.title, TITLE_WIDTH)
            axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
            if picture.note:  # what is cut off is said where it is cut off
                label = f"{axes.get_xlabel()}\n{textwrap.fill(picture.note, NOTE_WIDTH)}"
                axes.set_xlabel(label, fontsize=8)
        for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            file = directory / f"{row[0].group or row[0].id}.{kind}"
            try:
                figure.savefig(file, dpi=DOTS_PER_INCH, metadata=metadata)
            except OSError as error:
                file.unlink(missing_ok=True)
                raise RunError(f"'{file}' cannot be written: {error.strerror}") from None
            written.append(file)
    return written


def draw(axes: Any, picture: Picture) -> list[Any]:
    """Draw a picture on matplotlib axes; what was added can be removed to draw it anew."""
    bright = isinstance(picture, Heatmap)
    added = _heatmap(axes, picture) if isinstance(picture, Heatmap) else _chart(axes, picture)
    added += [_mark(axes, mark, bright) for mark in picture.marks]
    added += _shades(axes, picture.shades)
    ground = {"facecolor": "#3b4a63", "labelcolor": "white", "framealpha": 0.9}
    if axes.get_legend_handles_labels()[1]:
        points = sum(len(line.get_xdata()) for line in axes.get_lines())
        where = "best" if points < MOST_TO_AVOID else "upper right"  # to look for it takes long
        axes.legend(fontsize=8, loc=where, **(ground if bright else {"frameon": False}))
    return added


def as_written(part: Any) -> Any:
    """A picture, or a part of it, whose texts matplotlib does not take for formulas."""
    if isinstance(part, str):
        return part.replace("$", r"\$")
    if isinstance(part, (list, tuple)) and part and not isinstance(part[0], (int, float)):
        return [as_written(each) for each in part]
    if not is_dataclass(part) or isinstance(part, type):
        return part
    held = {each.name: getattr(part, each.name) for each in fields(part)}
    return replace(part, **{name: as_written(value) for name, value in held.items()})


def _chart(axes: Any, chart: Chart) -> list[Any]:
    log = chart.y.scale == "log"
    ground = foot(v for s in chart.series for v in (*s.y, *s.low)) if log else None
    if ground is not None and chart.y.limits is not None and chart.y.limits[0] is not None:
        ground = chart.y.limits[0]
    added = []
    for series in chart.series:
        colour = colour_of(series.colour)
        style: dict[str, Any] = {"color": colour, "label": series.label}
        style["ls"] = DASHES[series.dash][0]
        if at := isolated(series.y):
            style |= {"marker": "o", "ms": 4, "markevery": at}
        (line,) = axes.plot(series.x, _lifted(series.y, ground), lw=1.4, **style)
        added.append(line)
        if len(series.low):
            low, high = _lifted(series.low, ground), _lifted(series.high, ground)
            edges = {"color": colour, "alpha": BAND_OPACITY, "lw": 0}
            added.append(axes.fill_between(series.x, low, high, **edges))
    _dress(axes, chart.x, "x")
    _dress(axes, chart.y, "y")
    if log:
        _log_ticks(axes, ground)
    axes.grid(color="#e8eaee", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return added


def _heatmap(axes: Any, picture: Heatmap) -> list[Any]:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    low, high = picture.range()
    norm = (LogNorm if picture.z.scale == "log" else Normalize)(low, high, clip=True)
    grid = np.full((len(picture.rows), len(picture.columns)), math.nan)
    for i, column in enumerate(picture.values):  # some have fewer rows
        grid[: len(column), i] = [math.nan if v is None else max(v, low) for v in column]
    colours = LinearSegmentedColormap.from_list(picture.map, MAPS[picture.map])
    at = edges(picture.columns), edges(picture.rows)
    mesh = axes.pcolormesh(*at, grid, norm=norm, cmap=colours, rasterized=True)
    bar = axes.figure.colorbar(mesh, ax=axes, label=_title(picture.z))
    added = [mesh, bar]
    for series in picture.overlays:
        style = {"color": "white", "ls": DASHES[series.dash][0], "label": series.label}
        added += axes.plot(series.x, _lifted(series.y, None), lw=1.2, **style)
    axes.set(xlabel=_title(picture.x), ylabel=_title(picture.y))
    ends = [axis.limits or (held[0], held[-1])
            for axis, held in zip((picture.x, picture.y), at, strict=True)]  # fmt: skip
    axes.set(xlim=ends[0], ylim=ends[1])
    if picture.row_labels:
        axes.set_yticks(picture.rows, picture.row_labels)
    if picture.column_labels:
        axes.set_xticks(picture.columns, picture.column_labels)
    return added


def _mark(axes: Any, mark: Mark, bright: bool) -> Any:
    style: dict[str, Any] = {"color": "white" if bright else MARK_COLOUR, "ls": ":", "lw": 1.4}
    if mark.axis == "y":
        return axes.axhline(mark.at, label=mark.label, **style)
    return axes.axvline(mark.at, label=mark.label, **style)


def _shades(axes: Any, shades: Sequence[Shade]) -> list[Any]:
    low, high = axes.get_xlim()
    least = (high - low) * LEAST_SHADE
    added, labels = [], set()
    for shade in shades:
        centre, half = (shade.start + shade.end) / 2, (shade.end - shade.start) / 2
        half = max(half, least / 2)
        label = None if shade.label in labels else shade.label
        labels.add(shade.label)
        colour = colour_of(SHADE_COLOUR if shade.colour == "" else shade.colour)
        style = {"color": colour, "alpha": BAND_OPACITY, "lw": 0, "label": label}
        added.append(axes.axvspan(centre - half, centre + half, **style))
    axes.set_xlim(low, high)
    return added


def _dress(axes: Any, axis: Axis, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(**{f"{name}label": _title(axis), f"{name}scale": axis.scale})
    if axis.limits is not None:
        axes.set(**{f"{name}lim": axis.limits})
    if axis.whole and axis.scale == "linear":
        locator = MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10])
        getattr(axes, f"{name}axis").set_major_locator(locator)


def _title(axis: Axis) -> str:
    return f"{axis.title} (log scale)" if axis.scale == "log" else axis.title


def _lifted(values: Sequence[Number], ground: float | None) -> list[float]:
    """Gaps as NaN; values of 0 on a log axis at its foot."""
    plain = [math.nan if v is None else v for v in values]
    return plain if ground is None else [ground if v <= 0 else v for v in plain]


def _log_ticks(axes: Any, ground: float | None) -> None:
    """Plain numbers at the decades, at 2 and 5 too where there are few; 0 at the foot."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    low, high = axes.get_ylim()
    if ground is not None:
        low = ground / 2
    subs = (1.0,) if high > low * 10**FEW_DECADES else (1.0, 2.0, 5.0)
    found = LogLocator(subs=subs, numticks=8).tick_values(low, high)
    ticks = [v for v in found if (ground or 0) < v and low <= v <= high]
    if len(ticks) > 1 or ground is not None:
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        names = [show(v) for v in ticks]
        axes.set_yticks([ground, *ticks] if ground else ticks, ["0", *names] if ground else names)
    axes.set_ylim(low, high)


def colour_of(colour: int | str) -> str:
    """A place in the palette, or any other colour that matplotlib knows."""
    from matplotlib.colors import is_color_like

    palette = PALETTE["light"]
    if isinstance(colour, str):
        return colour if is_color_like(colour) else palette[0]
    return palette[colour % len(palette)]
