"""The page: one HTML file that holds all it needs and works without a network."""

import functools
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from unrolled import __version__
from unrolled.report import charts, look, parts, tables, through_time
from unrolled.report.compare import by_experiment, objections
from unrolled.report.diagnosis import boxes
from unrolled.report.lab import pictures as lab_pictures
from unrolled.report.reading import Run
from unrolled.report.spec import Picture

GENERATOR = "unrolled report"
"""Stands in the head of the page, so that only a report is ever overwritten by another."""

SCRIPTS = ("uPlot.iife.min.js", "common.js", "unrolled.js", "heatmap.js")
STYLES = ("uPlot.min.css", "unrolled.css")

SECTIONS = (
    "Diagnosis", "Learning", "Experiment", "Gradients", "Through time", "Results", "Samples",
    "Parameters", "Settings", "Environment",
)  # fmt: skip

FINDINGS_OPEN = 4
"""Further ones are folded away: the graver come first."""

PICTURED = ("Learning", "Experiment", "Gradients", "Through time")


@functools.cache
def static(name: str) -> str:
    """A file that the package carries."""
    return (files("unrolled.report") / "static" / name).read_text(encoding="utf-8")


def script() -> str:
    """The drawing code: the chart library, and ours on top of it."""
    library, *own = map(static, SCRIPTS)
    settings = f"unrolled.look={parts.script_json(look.as_dict())};"
    # the library keeps its name and version in its first line, its licence in uPlot.LICENSE
    return "\n".join([library, own[0], settings, *own[1:]])


def css() -> str:
    """The styles, with the palette."""
    return "\n".join([*map(static, STYLES), look.css()])


def pictures(runs: Sequence[Run]) -> dict[str, list[Picture]]:
    """All pictures of the page by section, each under an id of its own."""
    found: dict[str, list[Picture]] = {name: [] for name in PICTURED}
    groups = by_experiment(runs).values()
    for group in groups:
        sources = charts.sources(group, named=len(groups) > 1)
        found["Learning"] += charts.measures(sources)
        found["Experiment"] += [picture for run in group for picture in lab_pictures(run)]
        found["Gradients"] += charts.norms(sources)
        for source in sources:
            found["Gradients"] += charts.parameter_charts(source)
            layers = source.telemetry.layers if source.telemetry else {}
            found["Through time"] += [
                through_time.heatmap(source, name, layer)
                for name, layer in layers.items()
                if layer.gradients.x
            ]
        found["Through time"] += through_time.profiles(sources)
        found["Through time"] += through_time.over_steps(sources)
    return _with_own_ids(found, [charts.slug(name) for name in SECTIONS])


def _with_own_ids(
    found: dict[str, list[Picture]], taken: Sequence[str]
) -> dict[str, list[Picture]]:
    from dataclasses import replace

    seen = set(taken)
    result: dict[str, list[Picture]] = {}
    for section, list_ in found.items():
        for picture in list_:
            id, number = picture.id, 2
            while id in seen:
                id, number = f"{picture.id}-{number}", number + 1
            seen.add(id)
            result.setdefault(section, []).append(replace(picture, id=id))
    return result


def render(runs: Sequence[Run], drawn: dict[str, list[Picture]]) -> str:
    """The whole page.

    Args:
        runs: what it tells of.
        drawn: its pictures by section, as from `pictures`.
    """
    several = len(runs) > 1
    sections = {
        "Diagnosis": _diagnosis(runs),
        **{name: parts.grid(drawn.get(name, ())) for name in PICTURED},
        "Results": _results(runs),
        "Samples": _samples(runs),
        "Parameters": _parameters(runs),
        "Settings": _card(tables.settings(runs)),
        "Environment": _card(tables.environment(runs)),
    }
    names = [name for name in SECTIONS if sections[name]]
    title = _listed([run.name for run in runs]) if len(runs) < 4 else f"{len(runs)} runs"
    specs = [picture.as_dict() for list_ in drawn.values() for picture in list_]
    links = (f'<li><a href="#{charts.slug(name)}">{name}</a></li>' for name in names)
    return Template(static("page.html")).substitute(
        generator=f"{GENERATOR} {__version__}",
        title=escape(title),
        lead="<br>".join(escape(_lead(run, several)) for run in runs),
        css=css(),
        notices=_notices(runs),
        tiles="" if several else parts.tiles(tables.results(runs)[:8]),
        links="".join(links),
        sections="".join(parts.section(name, sections[name], lead=LEADS.get(name, ""))
                         for name in names),
        version=__version__,
        script=script(),
        specs=parts.script_json(specs),
    )  # fmt: skip


LEADS = {
    "Gradients": "How long the gradient is, and what clipping makes of it.",
    "Experiment": "What this experiment measures besides.",
    "Through time": "How the gradient of the loss fades or grows on its way back "
    "through the sequence.",
}


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _lead(run: Run, named: bool) -> str:
    config, summary = run.config, run.summary
    told = [run.experiment, str(config.get("framework", ""))]
    if config.get("seed") is not None:  # the loops that are watched have seeds of their own
        told.append(f"seed {config['seed']}")
    told.append(str(summary.get("status", "unfinished: it has left no summary")))
    text = ", ".join(part for part in told if part)
    return f"{run.name}: {text}" if named else text


def _notices(runs: Sequence[Run]) -> str:
    boxes = [parts.finding("warning", "not comparable", text) for text in objections(runs)]
    for run in runs:
        if run.notes:
            head = "left out" if len(runs) == 1 else f"left out of {run.name}"
            notes = [f"{note}." for note in run.notes]
            boxes.append(parts.finding("note", head, notes[0], notes[1:]))
    return f'<ul class="findings" aria-label="notices">{"".join(boxes)}</ul>' if boxes else ""


def _diagnosis(runs: Sequence[Run]) -> str:
    found = []
    for run in runs:
        for box in boxes(run):
            head = box.head if len(runs) == 1 else f"{run.name}: {box.head}"
            found.append(parts.finding(box.kind, head, box.text, box.more))
    first, rest = found[:FINDINGS_OPEN], found[FINDINGS_OPEN:]
    if len(rest) == 1:
        first, rest = found, []
    shown, folded = (f'<ul class="findings">{"".join(list_)}</ul>' for list_ in (first, rest))
    if rest:
        shown += f"<details><summary>{len(rest)} more findings</summary>{folded}</details>"
    return shown if found else ""


def _results(runs: Sequence[Run]) -> str:
    found = []
    if len(runs) > 1:
        for group in by_experiment(runs).values():
            results = {run.name: dict(tables.results([run])) for run in group}
            names = list(dict.fromkeys(name for each in results.values() for name in each))
            if names:
                rows = [[name, *[results[run.name].get(name, tables.MISSING) for run in group]]
                        for name in names]  # fmt: skip
                head = (group[0].experiment, *[run.name for run in group])
                found.append(_card(parts.table(head, rows, name="results")))
    for run in runs:
        own = f" of {run.name}" if len(runs) > 1 else ""
        found += [_card(f"<h3>{escape(title + own)}</h3>{table}")
                  for title, table in tables.nested(run.summary)]  # fmt: skip
    return "".join(found)


def _samples(runs: Sequence[Run]) -> str:
    cards = []
    for run in runs:
        samples = run.summary.get("samples")
        if not isinstance(samples, dict) or not samples:
            continue
        head = f"<h3>{escape(run.name)}</h3>" if len(runs) > 1 else ""
        lines = "".join(f"<pre>{escape(str(text))}</pre>" for text in samples.values())
        cards.append(f'<div class="card">{head}{lines}</div>')
    return f'<div class="grid">{"".join(cards)}</div>' if cards else ""


def _parameters(runs: Sequence[Run]) -> str:
    found = [(s.label, tables.parameters(s)) for s in charts.sources(runs)]
    found = [(label, body) for label, body in found if body]
    if len(found) == 1:
        return _card(found[0][1])
    return "".join(
        _card(f"<details><summary>{escape(label)}</summary>{body}</details>")
        for label, body in found
    )


def _card(content: str) -> str:
    return f'<div class="grid"><div class="card">{content}</div></div>' if content else ""
