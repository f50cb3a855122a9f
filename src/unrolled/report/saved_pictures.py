"""Read the pictures of a run's ``charts.json``, which an experiment wrote as specifications.

``charts.json`` is a list of what `Chart.as_dict` and `Heatmap.as_dict` give: accuracy against
length, gates over one sequence, and whatever else only the experiment itself knows.
"""

import json
from dataclasses import fields, replace
from typing import Any

from unrolled.report.reading import Run
from unrolled.report.spec import Axis, Chart, Heatmap, Mark, Picture, Series
from unrolled.report.style import style
from unrolled.telemetry.recorded_run import DAMAGED

FILE = "charts.json"


def pictures(run: Run) -> list[Picture]:
    """The specifications of a run's ``charts.json``; damaged ones are noted and left out."""
    file = run.path / FILE
    if not file.is_file():
        return []
    try:
        data = json.loads(file.read_bytes())
        return [told_apart(from_dict(each)) for each in data]
    except DAMAGED:
        run.problems.append(f"{FILE} is damaged and left out")
        return []


def from_dict(data: dict[str, Any]) -> Picture:
    """The inverse of ``as_dict``.

    Example:
        >>> chart = Chart("a", "A", Axis("x"), Axis("y"), [Series("s", [1], [2])])
        >>> from_dict(chart.as_dict()).as_dict() == chart.as_dict()
        True
    """
    parts = dict(data)
    cls: Any = {"chart": Chart, "heatmap": Heatmap}[parts.pop("kind")]
    for name in ("x", "y", "z"):
        if name in parts:
            parts[name] = Axis(**parts[name])
    for name, kind in (("series", Series), ("overlays", Series), ("marks", Mark)):
        if name in parts:
            parts[name] = [kind(**each) for each in parts[name]]
    names = {f.name for f in fields(cls)}
    picture: Picture = cls(**{name: v for name, v in parts.items() if name in names})
    return picture


def told_apart(picture: Picture) -> Picture:
    """The picture with a dash for each line, where only colours would tell them apart.

    Example:
        >>> lines = [Series("a", [1], [2]), Series("b", [1], [3], colour=1)]
        >>> chart = told_apart(Chart("a", "A", Axis("x"), Axis("y"), lines))
        >>> [line.dash for line in chart.series]
        ['solid', 'dashed']
    """
    if not isinstance(picture, Chart) or {line.dash for line in picture.series} != {"solid"}:
        return picture
    series = [replace(line, dash=style(i)[1]) for i, line in enumerate(picture.series)]
    return replace(picture, series=series)
