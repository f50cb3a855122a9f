"""Format a table of parameters for a terminal or a notebook."""

import html
import math
from typing import Any

HEADINGS = ("name", "shape", "dtype", "values", "gradient norm", "tied with")
RIGHT_ALIGNED = {"values", "gradient norm"}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    norm = row["gradient_norm"]
    return (
        row["name"],
        str(tuple(row["shape"])),
        row["dtype"],
        f"{row['size']:,}",
        "" if norm is None else f"{norm:.4g}",
        ", ".join(row["tied_with"]),
    )


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headings and lines, without the columns that are empty throughout, and a total."""
    total = sum(row["size"] for row in rows)
    norms = [row["gradient_norm"] for row in rows if row["gradient_norm"] is not None]
    norm = f"{math.hypot(*norms):.4g}" if norms else ""
    lines = [*map(_cells, rows), ("total", "", "", f"{total:,}", norm, "")]
    used = [i for i in range(len(HEADINGS)) if any(line[i] for line in lines)]
    return [HEADINGS[i] for i in used], [tuple(line[i] for i in used) for line in lines]


def as_text(rows: list[dict[str, Any]]) -> str:
    """A listing for a terminal."""
    headings, lines = _table(rows)
    widths = [max(len(cell) for cell in column) for column in zip(headings, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading in RIGHT_ALIGNED else cell.ljust(width)
            for cell, width, heading in zip(line, widths, headings, strict=True)
        ).rstrip()
        for line in (headings, *lines)
    )


def as_html(rows: list[dict[str, Any]]) -> str:
    """A listing for a notebook."""
    headings, lines = _table(rows)

    def cells(tag: str, line: list[str] | tuple[str, ...]) -> str:
        return "".join(
            f'<{tag} style="text-align:{"right" if heading in RIGHT_ALIGNED else "left"}">'
            f"{html.escape(cell)}</{tag}>"
            for cell, heading in zip(line, headings, strict=True)
        )

    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines[:-1])
    return (
        f"<table><thead><tr>{cells('th', headings)}</tr></thead><tbody>{body}</tbody>"
        f"<tfoot><tr>{cells('th', lines[-1])}</tr></tfoot></table>"
    )
