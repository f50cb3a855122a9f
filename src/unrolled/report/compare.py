"""Compare several runs: shared charts, same axes, what cannot be compared."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unrolled.report.charts import slug
from unrolled.report.reading import Run
from unrolled.report.spec import Chart, Picture, on_same_axes
from unrolled.report.style import style

Sections = Mapping[str, Sequence[Picture]]

DATA = {
    "language-model": ("text", "clean", "max_tokens"),
    "linear-regression": ("noise", "num_train", "num_val"),
}
"""Settings that change what is learned: losses on different data do not compare."""


def by_experiment(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each experiment."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    return groups


def side_by_side(runs: Sequence[Run], found: Sequence[Sections]) -> dict[str, list[Picture]]:
    """The same picture of every run next to each other, on the same axes.

    Where runs of one experiment have a line each they share one chart. ``found`` has the pictures
    of each run by section; their ids are unique in the run.
    """
    together: dict[str, list[Picture]] = {}
    for section in found[0]:
        owners: dict[str, list[tuple[int, Picture]]] = {}
        for place, pictures in enumerate(found):
            for picture in pictures[section]:
                owners.setdefault(picture.id, []).append((place, picture))
        for id, members in owners.items():
            together.setdefault(section, []).extend(_beside(runs, id, members))
    return together


def _beside(
    runs: Sequence[Run], id: str, members: Sequence[tuple[int, Picture]]
) -> Sequence[Picture]:
    """The same picture of several runs: the lines of an experiment in one chart if they fit."""
    charts = [(i, picture) for i, picture in members if isinstance(picture, Chart)]
    if len(charts) < len(members) or any(len(chart.series) > 1 for _, chart in charts):
        return _group(id, [(runs[i].name, picture) for i, picture in members])
    alike: dict[tuple[str, ...], list[tuple[int, Chart]]] = {}
    for i, chart in charts:
        what = runs[i].experiment, chart.x.title, chart.y.title
        alike.setdefault(what, []).append((i, chart))
    if len(alike) == 1 and len(charts) > 1:
        return [_one_chart(runs, charts)]
    each = [", ".join(runs[i].name for i, _ in own) for own in alike.values()]
    merged = [_one_chart(runs, own) for own in alike.values()]
    return _group(id, list(zip(each, merged, strict=True)))


def _one_chart(runs: Sequence[Run], charts: Sequence[tuple[int, Chart]]) -> Chart:
    """The lines of several runs in one chart."""
    if len(charts) == 1:
        return charts[0][1]
    first = charts[0][1]
    series, marks, shades = [], [], []
    for i, chart in charts:
        name, (colour, dash) = runs[i].name, style(i)
        series += [replace(line, label=name, colour=colour, dash=dash) for line in chart.series]
        shades += [replace(each, label=f"{name}: {each.label}", colour=colour)
                   for each in chart.shades]  # fmt: skip
        for mark in chart.marks:
            common = all(mark in other.marks for _, other in charts)
            own = mark if common else replace(mark, label=f"{name}: {mark.label}")
            marks += [own] if own not in marks else []
    y = next((chart.y for _, chart in charts if chart.y.scale == "log"), first.y)
    said: dict[str, Any] = {
        field: _said({runs[i].name: getattr(chart, field) for i, chart in charts})
        for field in ("caption", "note")
    }
    return replace(first, series=series, marks=marks, shades=shades, y=y, **said)


def _said(texts: Mapping[str, str]) -> str:
    """Join texts by the names of their runs: sentences that all have in common stand once."""
    split = {name: re.split(r"(?<=\.) ", text) if text else [] for name, text in texts.items()}
    common = [s for s in next(iter(split.values())) if all(s in each for each in split.values())]
    rest: dict[str, list[str]] = {}
    for name, sentences in split.items():
        if own := " ".join(s for s in sentences if s not in common):
            rest.setdefault(own, []).append(name)
    return " ".join([*common, *(f"{', '.join(names)}: {text}" for text, names in rest.items())])


def _group(id: str, members: Sequence[tuple[str, Picture]]) -> list[Picture]:
    """Pictures side by side, called after their runs."""
    beside = on_same_axes([picture for _, picture in members])
    first = beside[0].caption
    return [
        replace(
            picture,
            id=f"{id}-{slug(name)}",
            title=f"{picture.title} · {name}",
            caption="" if n and picture.caption == first else picture.caption,
            group=id if len(members) > 1 else "",
        )
        for n, ((name, _), picture) in enumerate(zip(members, beside, strict=True))
    ]


def only_some(runs: Sequence[Run], found: Sequence[Sections]) -> str:
    """Which pictures only some runs have, in words; empty where all have the same."""
    titles: dict[str, str] = {}
    owners: dict[str, list[str]] = {}
    for run, sections in zip(runs, found, strict=True):
        for picture in (picture for pictures in sections.values() for picture in pictures):
            titles.setdefault(picture.id, picture.title)
            owners.setdefault(picture.id, []).append(run.name)
    rest: dict[tuple[str, ...], list[str]] = {}
    for id, names in owners.items():
        if len(names) < len(runs):
            rest.setdefault(tuple(names), []).append(titles[id])
    return " ".join(f"Only {', '.join(names)}: {'; '.join(t)}." for names, t in rest.items())


def objections(runs: Sequence[Run]) -> list[str]:
    """What must not be compared among these runs, and why; empty if all may be."""
    told = []
    groups = by_experiment(runs)
    if len(groups) > 1:
        names = "; ".join(f"{name}: {_listed(group)}" for name, group in groups.items())
        told.append(
            f"These are runs of different experiments ({names}). Their losses, accuracies and "
            "gradient norms are of different models on different data: a lower one does not mean "
            "a better model. How gradients change through time, and from step to step, can be "
            "compared."
        )
    for experiment, group in groups.items():
        differing = [
            name
            for name in DATA.get(experiment, ())
            if len({str(run.settings.get(name)) for run in group}) > 1
        ]
        if differing:
            told.append(
                f"The runs {_listed(group)} learned from different data ({', '.join(differing)} "
                "differ): their losses and perplexities lie in one chart, but a lower one does "
                "not mean a better model."
            )
        unfinished = [r.name for r in group if r.summary.get("status", "finished") != "finished"]
        if unfinished and len(runs) > 1:
            told.append(f"Not finished: {', '.join(unfinished)}; compare at the same epoch only.")
    return told


def _listed(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs)
