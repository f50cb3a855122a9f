"""The tables of a report as rows: settings, environment, parameters, results."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unrolled.report.charts import Source
from unrolled.report.parts import table
from unrolled.report.reading import Run
from unrolled.report.spec import show
from unrolled.runs.ending import WATCH, no_end

HEAD = {"experiment", "framework", "seed", "status", "samples"}
"""Parts of a summary that stand elsewhere on the page."""

MISSING = "\N{EN DASH}"

MOST_TILES = 8

MOST_COLUMNS = 50
"""Columns of a table of results; more are listed one below the other."""


DIFFERENCES_OPEN = 12
"""Rows of what differs between runs that stand under the title; further ones are folded away."""

OWN = ("began", "took_s", "command", "resumed")
"""Entries of the environment that differ between any two runs."""


def facts(run: Run) -> dict[str, str]:
    """What a run is, in words: experiment, framework, seed, how it ended."""
    config, end = run.config, no_end(run.path)
    unfinished = "still running" if end and end.is_running else "not finished"
    found = {
        "experiment": run.experiment,
        "framework": str(config.get("framework") or ""),
        # the loops that are watched have seeds of their own
        "seed": "" if config.get("seed") is None else f"seed {config['seed']}",
        "ended": str(run.summary.get("status") or unfinished),
    }
    return {name: value for name, value in found.items() if value}


def circumstances(run: Run) -> str:
    """When a run began, how long it took, where, and by which command, as far as is known."""
    known = run.environment
    began, took = known.get("began"), known.get("took_s")
    where = [str(known[name]) for name in ("processor", "instructions") if known.get(name)]
    told = [
        f"began {_time(began)}" if began else "",
        f"took {duration(took)}" if isinstance(took, (int, float)) else "",
        f"on {', '.join(where)}" if where else "",
        f"by {known['command']}" if known.get("command") else "",
        *_resumed(run)[-1:],
    ]
    return "; ".join(filter(None, told))


def _resumed(run: Run) -> list[str]:
    """When and after which steps a run was resumed, in words."""
    times = run.environment.get("resumed")
    found = [each for each in times if isinstance(each, dict)] if isinstance(times, list) else []
    return [
        f"resumed {_time(each.get('began'))} after step {text(each.get('step'))}"
        + (f" of {each['part']}" if each.get("part") else "")
        for each in found
    ]


def _time(began: Any) -> str:
    return str(began).replace("T", " ").replace("+00:00", " UTC")


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> duration(3.21), duration(75), duration(7322)
        ('3.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def settings(runs: Sequence[Run]) -> str:
    """Every setting of every run; with several runs those that all have in common come first."""
    return _in_common(runs, [_settings(run) for run in runs], "setting")


def environment(runs: Sequence[Run]) -> str:
    """Where each run took place."""
    return _in_common(runs, [_environment(run) for run in runs], "what")


def _settings(run: Run) -> dict[str, str]:
    return {k: "not given" if v is None else text(v) for k, v in run.settings.items()}


def recorded(run: Run) -> dict[str, str]:
    """Settings of a watched run as its records tell them: steps, parameters, clipping, rates."""
    if run.experiment != WATCH or not (telemetry := run.telemetry.get("")):
        return {}
    how = (telemetry.method or "by a method unknown").replace("_", " ")
    at = f" at {show(telemetry.threshold)}" if telemetry.threshold is not None else ""
    found = {
        "recorded steps": f"{telemetry.steps:,}",
        "trained parameters": f"{len(telemetry.parameters):,}",
        "recurrent layers": ", ".join(telemetry.layers) or MISSING,
        "clipping": f"{how}{at}" if telemetry.clipped else "none seen",
    }
    rates = []
    for line in telemetry.learning_rates.values():
        first, last = (show(line.series("").y[i]) for i in (0, -1))
        rates.append(first if first == last else f"{first} to {last}")
    return found | ({"learning rate": "; ".join(rates)} if rates else {})


def _environment(run: Run) -> dict[str, str]:
    known = {**run.environment}
    if resumed := _resumed(run):
        known["resumed"] = "; ".join(resumed)
    return {k: MISSING if v is None else text(v) for k, v in flat(known).items()}


def differences(runs: Sequence[Run]) -> str:
    """What differs between runs: kind, end, settings, environment; the results stand elsewhere."""
    rows = [
        row
        for each in (facts, _settings, recorded, _environment)
        for values in [[each(run) for run in runs]]
        for row in beside(values)
        if len(set(row[1:]) - {MISSING}) > 1 and row[0] not in OWN
    ]  # fmt: skip
    # framework and seed are settings, too
    rows = list({row[0]: row for row in rows}.values())
    if not rows:
        return "<p>Settings and environment, as far as recorded, are the same in all runs.</p>"
    head = ("what differs", *[run.name for run in runs])
    first, rest = rows[:DIFFERENCES_OPEN], rows[DIFFERENCES_OPEN:]
    shown = table(head, first, name="what differs between the runs")
    folded = table(head, rest, name="what differs besides") if rest else ""
    more = f"<details><summary>{len(rest)} more</summary>{folded}</details>" if rest else ""
    return f'<div class="card differences">{shown}{more}</div>'


def beside(values: Sequence[dict[str, str]]) -> list[list[str]]:
    """Rows of a table with a column for each run: name, values."""
    names = dict.fromkeys(name for each in values for name in each)
    return [[name, *[each.get(name, MISSING) for each in values]] for name in names]


def _in_common(runs: Sequence[Run], values: Sequence[dict[str, str]], head: str) -> str:
    rows = beside(values)
    if len(runs) == 1 or not rows:
        return table((head, "value"), rows, name=head) if rows else ""
    common = [row[:2] for row in rows if len(set(row[1:])) == 1]
    rest = [row for row in rows if len(set(row[1:])) > 1]
    tables = []
    if common:
        tables.append(table((head, "in all runs"), common, name=f"{head}s in common"))
    if rest:
        heads = (head, *[run.name for run in runs])
        tables.append(table(heads, rest, name=f"{head}s that differ"))
    return "".join(tables)


def headline(run: Run) -> list[tuple[str, str]]:
    """The few numbers of a run that stand at the top."""
    pairs = results(run)
    named = {name for name, _ in pairs}
    for part, telemetry in run.telemetry.items():
        if "loss" not in named and not run.metrics and telemetry.loss.last is not None:
            pairs.append((f"last loss{f' of {part}' if part else ''}", show(telemetry.loss.last)))
    return pairs[:MOST_TILES]


def unrecorded(run: Run) -> list[str]:
    """Say that a watched run has recorded no loss, and how to record it."""
    if run.experiment != WATCH or not run.telemetry:
        return []
    if any(telemetry.loss.known for telemetry in run.telemetry.values()):
        return []
    return ["no loss was recorded; to have it, call watched.loss(loss) before the optimizer's step"]


def results(run: Run) -> list[tuple[str, str]]:
    """The plain numbers of a run's summary, as name and text."""
    return [
        (name.replace("_", " "), text(value))
        for name, value in run.summary.items()
        if name not in HEAD and (value is None or isinstance(value, (bool, int, float, str)))
    ]


def nested(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Tables of the lists and dicts in a summary, each with its name."""
    found = []
    for name, value in summary.items():
        if name in HEAD or not isinstance(value, (dict, list)) or not value:
            continue
        title = name.replace("_", " ")
        if isinstance(value, list):
            value = {str(i): part for i, part in enumerate(value)}
        parts = {key: flat(part) for key, part in value.items() if isinstance(part, dict)}
        columns = list(dict.fromkeys(column for part in parts.values() for column in part))
        if len(parts) == len(value) and len(columns) <= MOST_COLUMNS:
            rows = [
                [key, *[text(part.get(column)) for column in columns]]
                for key, part in parts.items()
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
        name: np.asarray(value)
        for name, value in source.run.parameters.items()
        if not source.part or name.startswith(f"{source.part}.")
    }
    known = source.telemetry.parameters
    names = list(dict.fromkeys([*trained, *known]))
    if not names:
        return ""
    head = ["name"]
    if trained:
        head += ["shape", "numbers", "mean", "spread", "largest |w|"]
    if known:
        head += [] if trained else ["last weight norm"]
        head += ["last gradient norm", "largest gradient norm", "at step", "last update ratio"]
    rows = []
    for name in names:
        row = [name]
        if trained:
            row += _values(trained[name]) if name in trained else [MISSING] * 5
        if known:
            own = known.get(name)
            last, peak = (own.last, own.peak) if own else (None, None)
            row += [] if trained else [_shown(last and last.weight_norm)]
            row += [
                _shown(last and last.gradient_norm),
                _shown(peak and peak[0]),
                f"{peak[1]:,}" if peak else MISSING,
                _shown(last and last.update_ratio),
            ]
        rows.append(row)
    if trained:
        total = sum(value.size for value in trained.values())
        rows.append(["total", "", f"{total:,}", *[""] * (len(head) - 3)])
    return table(head, rows, numbers=True, name="parameters")


def _shown(value: Any) -> str:
    return MISSING if value is None else show(value)


def _values(value: Any) -> list[str]:
    """Shape, size, mean, standard deviation and largest size of a parameter."""
    shape = "\N{MULTIPLICATION SIGN}".join(map(str, value.shape)) or "1"
    if not value.size or value.dtype.kind not in "iuf":
        return [shape, f"{value.size:,}", *[MISSING] * 3]
    with np.errstate(all="ignore"):
        wide = value.astype(np.float64)
        found = wide.mean(), wide.std(), np.abs(wide).max()
    shown = [show(float(v)) if np.isfinite(v) else str(v) for v in found]
    return [shape, f"{value.size:,}", *shown]


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data under dotted names: ``{"b": {"c": 2}}`` is ``{"b.c": 2}``."""
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
        ('yes', '–', '0.3', '1, 2', 'as it is')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return MISSING
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 1e4 else str(value)
    if isinstance(value, float):
        return show(value)
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return str(value)
