"""HTML of figures, tables and findings; all text is escaped here."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any

from unrolled.report.charts import slug
from unrolled.report.spec import Chart, Heatmap, Picture, rows, show

SIGNS = {"serious": "✖", "warning": "▲", "note": "●", "good": "✔"}
"""A sign for each kind of finding, for readers who do not see its colour."""


def figure(picture: Picture) -> str:
    """A picture: title, place that ``static/common.js`` draws on, how to read it, its values."""
    told = "".join(f"<p>{escape(text)}</p>" for text in (picture.caption, picture.note) if text)
    return (
        f'<figure id="{escape(picture.id)}"><h3>{escape(picture.title)}</h3>'
        f'<div class="unrolled" role="img" id="{escape(picture.id)}-plot" '
        f'aria-label="{escape(alternative(picture))}"></div>'
        f"<figcaption>{told}{values(picture)}</figcaption></figure>"
    )


def alternative(picture: Picture) -> str:
    """The picture in a sentence, for those who do not see it."""
    axes = f"{picture.title}. {picture.y.title} against {picture.x.title}"
    if isinstance(picture, Heatmap):
        low, high = picture.range()
        return f"{axes}; colour shows {picture.z.title}, from {show(low)} to {show(high)}."
    lasts = "; ".join(f"{row[0]} ends at {row[-1]}" for row in picture.summary()[:6])
    return f"{axes}. {lasts}."


def values(picture: Picture) -> str:
    """A table of the picture's values, folded away."""
    if isinstance(picture, Chart):
        head: Sequence[str] = ("line", "first", "smallest", "largest", "last")
    else:
        names = picture.row_labels or [f"t = {show(y)}" for y in picture.rows]
        head = (picture.x.title, *[names[i] for i in picture.summary_rows()])
    body = table(head, picture.summary(), numbers=True)
    return f"<details><summary>Values as a table</summary>{body}</details>"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: bool = False,
    name: str = "",
) -> str:
    """A table that scrolls by itself where the page is narrow; the first cell is a row's heading.

    With ``numbers`` all other columns are aligned right. ``name`` is for screen readers.
    """
    align = ' class="number"' if numbers else ""
    heads = "".join(
        f'<th scope="col"{align if i else ""}>{escape(cell)}</th>' for i, cell in enumerate(head)
    )
    lines = []
    for row in rows:
        cells = "".join(f"<td{align}>{escape(cell)}</td>" for cell in row[1:])
        lines.append(f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    label = f' aria-label="{escape(name)}"' if name else ""
    return (
        f'<div class="wide" tabindex="0"{label}><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def finding(kind: str, head: str, text: str, more: Sequence[str] = ()) -> str:
    """A box with a sign and a word for its kind: serious, warning, note or good."""
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in (text, *more) if line)
    return (
        f'<li class="finding {kind}"><span class="kind"><span aria-hidden="true">{SIGNS[kind]}'
        f"</span> {kind}: {escape(head)}</span>{paragraphs}</li>"
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """A few large numbers."""
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs
    )
    return f'<dl class="tiles">{cells}</dl>' if cells else ""


def section(title: str, content: str, lead: str) -> str:
    """A part of the page under a heading."""
    intro = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{slug(title)}"><h2>{escape(title)}</h2>{intro}{content}</section>'


def grid(pictures: Iterable[Picture]) -> str:
    """Figures where there is room; those of one group side by side, in rows of their own."""
    found = []
    for is_group, together in groupby(rows(pictures), lambda row: bool(row[0].group)):
        figures = ["".join(map(figure, row)) for row in together]
        if not is_group:
            figures = ["".join(figures)]
        name = "grid panels" if is_group else "grid"
        found += [f'<div class="{name}">{each}</div>' for each in figures]
    return "".join(found)


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
