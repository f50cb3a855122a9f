"""The tables of a report: settings, environment, parameters, results."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from unrolled.report.charts import Source
from unrolled.report.parts import table
from unrolled.report.reading import Run
from unrolled.report.spec import show

HEAD = {"experiment", "framework", "seed", "status", "samples"}
"""Parts of a summary that stand elsewhere on the page."""

MISSING = "\N{EN DASH}"


def settings(runs: Sequence[Run]) -> str:
    """Every setting of every run; with several runs those that differ come first."""
    return _beside(runs, [run.settings for run in runs], "setting")


def environment(runs: Sequence[Run]) -> str:
    """Where each run took place."""
    return _beside(runs, [flat(run.environment) for run in runs], "what")


def _beside(runs: Sequence[Run], values: Sequence[dict[str, Any]], head: str) -> str:
    names = list(dict.fromkeys(name for each in values for name in each))
    if not names:
        return ""
    rows = [[name, *[text(each[name]) if name in each else MISSING for each in values]]
            for name in names]  # fmt: skip
    if len(runs) == 1:
        return table((head, "value"), rows, name=head)
    differing = [row for row in rows if len(set(row[1:])) > 1]
    common = [(row[0], row[1]) for row in rows if len(set(row[1:])) == 1]
    first = (
        table((head, *[run.name for run in runs]), differing, name=f"{head}s that differ",
              marked=[True] * len(differing))
        if differing else "<p>They are the same in all runs.</p>"
    )  # fmt: skip
    rest = table((head, "in all runs"), common, name=f"{head}s in common") if common else ""
    folded = f"<details><summary>{len(common)} the same in all runs</summary>{rest}</details>"
    return first + (folded if common else "")


def results(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """The plain numbers of a run's summary, as name and text."""
    pairs = []
    for run in runs:
        for name, value in run.summary.items():
            if name not in HEAD and (value is None or isinstance(value, (bool, int, float, str))):
                pairs.append((name.replace("_", " "), text(value)))
    return pairs


def nested(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What a summary holds besides plain numbers, as name and table."""
    found = []
    for name, value in summary.items():
        if name in HEAD or not isinstance(value, (dict, list)) or not value:
            continue
        title = name.replace("_", " ")
        if isinstance(value, list):
            value = {str(i): part for i, part in enumerate(value)}
        if all(isinstance(part, dict) for part in value.values()):
            columns = list(dict.fromkeys(key for part in value.values() for key in flat(part)))
            rows = [
                [key, *[text(flat(part).get(column)) for column in columns]]
                for key, part in value.items()
            ]
            heads = [column.replace("_", " ") for column in columns]
            found.append((title, table(("", *heads), rows, numbers=True, name=title)))
        else:
            rows = [[key, text(part)] for key, part in flat(value).items()]
            found.append((title, table(("", "value"), rows, name=title)))
    return found


def parameters(source: Source) -> str:
    """Name, shape and size of each parameter, its values, and its last gradients."""
    trained = {
        name: value
        for name, value in source.run.parameters.items()
        if not source.part or name.startswith(f"{source.part}.")
    }
    telemetry = source.telemetry
    known = telemetry.parameters if telemetry else {}
    names = list(dict.fromkeys([*trained, *known]))
    if not names:
        return ""
    head = ["name", "shape", "numbers", "mean", "spread", "largest |w|"]
    if known:
        head += ["last gradient norm", "largest gradient norm", "at step", "last update ratio"]
    rows, total = [], 0
    for name in names:
        row = [name]
        if name in trained:
            value = np.asarray(trained[name])
            total += value.size
            row += [
                "\N{MULTIPLICATION SIGN}".join(map(str, value.shape)) or "1",
                f"{value.size:,}",
                *_moments(value),
            ]
        else:
            row += [MISSING] * 5
        if known:
            own = known.get(name)
            peak = own.peak if own else None
            last = own.last if own else None
            row += [
                show(last.gradient_norm) if last else MISSING,
                show(peak[0]) if peak else MISSING,
                f"{peak[1]:,}" if peak else MISSING,
                show(last.update_ratio) if last else MISSING,
            ]
        rows.append(row)
    rows.append(["total", "", f"{total:,}", *[""] * (len(head) - 3)])
    return table(head, rows, numbers=True, name="parameters")


def _moments(value: Any) -> Iterable[str]:
    if not value.size or not np.issubdtype(value.dtype, np.number):
        return [MISSING] * 3
    wide = value.astype(np.float64)
    with np.errstate(all="ignore"):
        found = wide.mean(), wide.std(), np.abs(wide).max()
    return [show(float(v)) if np.isfinite(v) else str(v) for v in found]


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data under dotted names.

    Example:
        >>> flat({"a": 1, "b": {"c": 2, "d": [3, 4]}})
        {'a': 1, 'b.c': 2, 'b.d': [3, 4]}
    """
    found: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, dict):
            found |= flat(part, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = part
    return found


def text(value: Any) -> str:
    """A value for people.

    Example:
        >>> text(True), text(None), text(0.1 + 0.2), text([1, 2]), text("as it is")
        ('yes', 'none', '0.3', '1, 2', 'as it is')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 1e4 else str(value)
    if isinstance(value, float):
        return show(value)
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return str(value)
