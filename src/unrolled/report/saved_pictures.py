"""Make pictures of data that somebody has saved; every part is checked."""

import math
import re
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from unrolled.report.spec import Axis, Chart, Heatmap, Mark, Picture, Series, Shade
from unrolled.report.style import DASHES


def from_dict(data: dict[str, Any]) -> Picture:
    """The inverse of ``as_dict``.

    Raises:
        ValueError, TypeError, KeyError: it is no picture, or a part of it is of another type.
    """
    kind: Any = {"chart": Chart, "heatmap": Heatmap}[data["kind"]]
    parts = {f.name: data[f.name] for f in fields(kind) if f.name in data}
    for name in parts.keys() & {"x", "y", "z"}:
        parts[name] = _checked(Axis(**parts[name]))
    lists = {"series": Series, "overlays": Series, "marks": Mark, "shades": Shade}
    for name in parts.keys() & lists.keys():
        parts[name] = [_checked(lists[name](**each)) for each in parts[name]]
    picture: Picture = _checked(kind(**parts))
    if isinstance(picture, Heatmap):
        _check_sizes(picture)
    return picture


CHOICES = {
    "scale": ("linear", "log"),
    "map": ("sequential", "diverging"),
    "axis": ("x", "y"),
    "dash": tuple(DASHES),
}
"""Values of fields that name one of a few."""


NAME = re.compile(r"\w[\w. -]{0,99}")
"""Allowed names of pictures that others have made: no path to another folder, and no HTML."""


def _checked(part: Any) -> Any:
    """The part itself if its fields hold what they declare."""
    for name, kind in get_type_hints(type(part)).items():
        value = getattr(part, name)
        if not _fits(value, kind) or value not in CHOICES.get(name, (value,)):
            raise ValueError(f"{name} of a {type(part).__name__} is a {type(value).__name__}")
        if name in ("id", "group") and value and not NAME.fullmatch(value):
            raise ValueError(f"{name} is no name for a link and a file: {value[:40]!r}")
    return part


def _fits(value: Any, kind: Any) -> bool:
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_fits(value, each) for each in kinds)
    if origin is tuple:
        pair = isinstance(value, (list, tuple)) and len(value) == len(kinds)
        return pair and all(map(_fits, value, kinds))
    if origin is not None:
        return isinstance(value, (list, tuple)) and all(_fits(each, kinds[0]) for each in value)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def _check_sizes(picture: Heatmap) -> None:
    columns, rows = len(picture.columns), len(picture.rows)
    fit = len(picture.values) == columns and all(len(each) <= rows for each in picture.values)
    fit &= len(picture.column_labels) in (0, columns) and len(picture.row_labels) in (0, rows)
    if not fit:
        raise ValueError(f"a heatmap of {columns} columns and {rows} rows has other sizes")
