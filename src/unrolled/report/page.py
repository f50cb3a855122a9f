"""Assemble the HTML page of a report: one file that works offline."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from string import Template

from unrolled import __version__
from unrolled.report import charts, parts, style, tables, through_time
from unrolled.report.compare import by_experiment, objections, only_some, side_by_side
from unrolled.report.reading import Run
from unrolled.report.spec import Picture, on_same_axes, rows
from unrolled.runs.ending import no_end
from unrolled.telemetry.diagnose import Finding, diagnosis_of, place

GENERATOR = "unrolled report"
"""Stands in the head of the page, so that only a report is ever overwritten by another."""

SCRIPTS = ("uPlot.iife.min.js", "common.js", "unrolled.js", "heatmap.js")
STYLES = ("uPlot.min.css", "unrolled.css")

SECTIONS = (
    "Diagnosis", "Learning", "Experiment", "Gradients", "Through time", "Results", "Samples",
    "Parameters", "Settings", "Environment",
)  # fmt: skip

ROWS_OPEN = 40
"""Rows of the parameters' table up to which it is not folded away."""

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
    settings = f"unrolled.look={parts.script_json(style.as_dict())};"
    # the library keeps its name and version in its first line, its licence in uPlot.LICENSE
    return "\n".join([library, own[0], settings, *own[1:]])


def css() -> str:
    """The styles, with the palette."""
    return "\n".join([*map(static, STYLES), style.css()])


def pictures(runs: Sequence[Run]) -> tuple[dict[str, list[Picture]], str]:
    """All pictures of the page by section, and in words which of them only some runs have."""
    found = [of_run(run, runs) for run in runs]
    if len(runs) == 1:
        return found[0], ""
    return _with_own_ids(side_by_side(runs, found)), only_some(runs, found)


def of_run(run: Run, runs: Sequence[Run]) -> dict[str, list[Picture]]:
    """Pictures of one run by section, ids all different; ``runs`` are all on the page."""
    sources = charts.sources(run)
    by_parameter: list[Picture] = [
        chart
        for source in sources
        for chart in charts.parameter_charts(
            source, [each.telemetry[source.part] for each in runs if source.part in each.telemetry]
        )
    ]
    by_parameter.sort(key=lambda chart: chart.group)  # of all parts the same chart side by side
    by_parameter = [chart for row in rows(by_parameter) for chart in on_same_axes(row)]
    return _with_own_ids(
        {
            "Learning": charts.measures(sources),
            "Experiment": charts.saved(run),
            "Gradients": [*charts.norms(sources), *by_parameter],
            "Through time": through_time.pictures(sources),
        }
    )


def _with_own_ids(found: Mapping[str, Iterable[Picture]]) -> dict[str, list[Picture]]:
    seen = {charts.slug(name) for name in SECTIONS}
    result: dict[str, list[Picture]] = {}
    for section, list_ in found.items():
        result[section] = []
        for picture in list_:
            id, number = picture.id, 2
            while id in seen:
                id, number = f"{picture.id}-{number}", number + 1
            seen.add(id)
            result[section].append(replace(picture, id=id))
    return result


def render(runs: Sequence[Run], drawn: Mapping[str, Sequence[Picture]], only: str) -> str:
    """The whole page; ``drawn`` and ``only`` are what `pictures` gives of the runs."""
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
        lead="<br>".join(map(escape, _lead(runs))),
        css=css(),
        notices=_notices(runs, only),
        differences=tables.differences(runs) if several else "",
        tiles="" if several else parts.tiles(tables.headline(runs[0])),
        links="".join(links),
        sections="".join(
            parts.section(name, sections[name], LEADS.get(name, "")) for name in names
        ),
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


def _lead(runs: Sequence[Run]) -> list[str]:
    """Lines below the title: what all runs share; for a single run also when and where it was."""
    facts = [tables.facts(run) for run in runs]
    common = [v for name, v in facts[0].items() if all(f.get(name) == v for f in facts)]
    when = tables.circumstances(runs[0]) if len(runs) == 1 else ""
    return [line for line in (", ".join(common), when) if line]


def _notices(runs: Sequence[Run], only: str) -> str:
    boxes = [parts.finding("warning", "not comparable", text) for text in objections(runs)]
    if only:
        boxes.append(parts.finding("note", "not in all runs", only))
    for run in runs:
        if notes := [f"{note}." for note in (*run.notes, *tables.unrecorded(run))]:
            head = "left out" if len(runs) == 1 else f"left out of {run.name}"
            boxes.append(parts.finding("note", head, notes[0], notes[1:]))
    return f'<ul class="findings" aria-label="notices">{"".join(boxes)}</ul>' if boxes else ""


def _diagnosis(runs: Sequence[Run]) -> str:
    found = [box for run in runs for box in _boxes(run, f"{run.name}: " if len(runs) > 1 else "")]
    first, rest = found[:FINDINGS_OPEN], found[FINDINGS_OPEN:]
    if len(rest) == 1:
        first, rest = found, []
    shown, folded = (f'<ul class="findings">{"".join(list_)}</ul>' for list_ in (first, rest))
    if rest:
        shown += f"<details><summary>{len(rest)} more findings</summary>{folded}</details>"
    return shown if found else ""


def _boxes(run: Run, head: str) -> list[str]:
    """What the diagnosis says of a run; empty where there is nothing to judge by."""
    if not (run.telemetry or run.metrics or no_end(run.path)):
        return []
    findings = diagnosis_of(run).findings
    found = [_box(head, part, each) for part, all_ in findings.items() for each in all_]
    if found:
        return found
    seen = "Judged by its epochs alone, as it kept no telemetry: less can be seen then."
    if run.telemetry:
        steps = sum(t.steps for t in run.telemetry.values())
        seen = f"Judged by {steps:,} recorded step{'s' * (steps != 1)}."
    return [parts.finding("good", f"{head}nothing found", f"No sign of trouble. {seen}")]


def _box(head: str, part: str, found: Finding) -> str:
    where = ([part] if part else []) + place(found)
    name = f"{head}{found.name} ({', '.join(where)})" if where else f"{head}{found.name}"
    return parts.finding(found.severity, name, found.text, [f"What to do: {found.remedy}."])


def _results(runs: Sequence[Run]) -> str:
    found = []
    if len(runs) > 1:
        for experiment, group in by_experiment(runs).items():
            rows = tables.beside([dict(tables.results(run)) for run in group])
            if rows:
                head = (experiment, *[run.name for run in group])
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
    found = [
        (" · ".join(part for part in (run.name if len(runs) > 1 else "", s.label) if part), body)
        for run in runs
        for s in charts.sources(run)
        if (body := tables.parameters(s))
    ]
    if len(found) == 1 and found[0][1].count("<tr") <= ROWS_OPEN:
        return _card(found[0][1])
    return "".join(
        _card(f"<details><summary>{escape(label or 'All parameters')}</summary>{body}</details>")
        for label, body in found
    )


def _card(content: str) -> str:
    return f'<div class="grid"><div class="card">{content}</div></div>' if content else ""
