"""Make the charts of a run's models: measures, gradient norms, updates, saved pictures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unrolled.report.downsample import Line, Spans
from unrolled.report.reading import Metrics, Run
from unrolled.report.saved_pictures import from_dict
from unrolled.report.spec import Axis, Chart, Mark, Picture, Series, Shade, show
from unrolled.report.style import PALETTE, style
from unrolled.report.telemetry import Telemetry
from unrolled.telemetry.recorded_run import DAMAGED, left_out
from unrolled.untrusted import MOST_CHARTS, read_json

STEP, EPOCH = Axis("training step", whole=True), Axis("epoch", whole=True)
PLACES = {"step": STEP, "epoch": EPOCH}
NORMS = ("gradient_norm", "gradient_norm_max", "clipped_norm")
WORDS = {
    "loss": "training",
    "val_loss": "validation",
    "gradient_norm": "before clipping",
    "gradient_norm_max": "before clipping, largest of the epoch",
    "clipped_norm": "after clipping",
}
LOSSES = {
    "language-model": "loss (nats per character)",
    "linear-regression": "loss (mean over the examples)",
    "digit-sum": "loss (nats per example)",
    "gradient-explosion": "loss (nats per example)",
}
LOG_FROM_RATIO = 20
"""A measure whose largest value is so many times its smallest is drawn on a log axis."""

MOST_WITH_EXTREMES = 2
"""Models in one chart up to which the largest norms of the epochs are drawn as well."""

PARAMETERS_DRAWN = 10
USUAL_UPDATE_RATIO = 1e-3

MOST_SAVED = 200
"""Pictures of `SAVED` that a page shows."""

SAVED = "charts.json"
"""A list of what ``as_dict`` of the experiment's own pictures gives."""


@dataclass(frozen=True)
class Source:
    """One model of a run: where a line comes from."""

    run: Run
    part: str  # name of the model in it; "" where it has only one
    label: str  # what lines are called after; "" where there is only one source
    place: int  # in the order of sources; chooses the colour

    @property
    def metrics(self) -> Metrics:
        return self.run.metrics.get(self.part) or Metrics(())

    @property
    def telemetry(self) -> Telemetry:
        return self.run.telemetry.get(self.part) or Telemetry()

    def name(self, words: str) -> str:
        """``words`` and where from, as ``"clipped: training"``."""
        return f"{self.label}: {words}" if self.label else words


Member = tuple[Source, str, Line]
"""A line: whose, of what, and its points."""


def sources(run: Run) -> list[Source]:
    """All models of a run."""
    parts = list(dict.fromkeys([*run.metrics, *run.telemetry]) or [""])
    if len(parts) == 1:
        return [Source(run, parts[0], "", 0)]
    return [Source(run, part, part or "whole run", i) for i, part in enumerate(parts)]


def measures(found: Sequence[Source]) -> list[Chart]:
    """A chart for each measure: losses together, accuracies together; and learning rates.

    Measures are those of ``metrics.jsonl``; the loss is telemetry's where there is none of epochs.
    """
    groups: dict[tuple[str, str], list[Member]] = {}
    for source in found:
        metrics, telemetry = source.metrics, source.telemetry
        for name, line in metrics.fields.items():
            if name not in NORMS:
                member = source, _word(name, _group(name)), line
                groups.setdefault((_group(name), metrics.x), []).append(member)
        if telemetry.loss.known and "loss" not in metrics.fields:
            member = source, WORDS["loss"], telemetry.loss
            groups.setdefault(("loss", "step"), []).append(member)
        for name, line in telemetry.learning_rates.items():
            member = source, name or "learning rate", line
            groups.setdefault(("learning rate", "step"), []).append(member)
    first = ("loss", "perplexity", "accuracy")
    order = sorted(groups, key=lambda key: first.index(key[0]) if key[0] in first else len(first))
    return [_measure(*key, groups[key]) for key in order]


def _group(field: str) -> str:
    for word in ("loss", "perplexity", "accuracy"):
        if word in field:
            return word
    return "accuracy" if "score" in field else field


def _measure(group: str, place: str, members: list[Member]) -> Chart:
    run = members[0][0].run
    series = _lines(members)
    words = group.replace("_", " ")
    y, marks, caption = Axis(words), [], ""
    if group == "loss":
        y = Axis(LOSSES.get(run.experiment, "loss"))
    elif group == "accuracy":
        inside = all(v is None or 0 <= v <= 1 for line in series for v in line.y)
        y = Axis("accuracy (share of examples)", limits=(0, 1) if inside else None)
    elif group == "perplexity":
        y = Axis("perplexity, in characters")
        caption = "The number of characters that the model hesitates between; 1 is certainty."
        if run.vocabulary:
            marks.append(Mark("y", run.vocabulary, f"guessing among {run.vocabulary}"))
        heldout = run.summary.get("heldout_perplexity")
        if isinstance(heldout, (int, float)):
            caption += f" On text never seen it ends at {heldout:.3g}."
    if group != "accuracy" and _spread(series) > LOG_FROM_RATIO:
        y = replace(y, scale="log")
    head = slug(group), capital(words), place, y
    return chart_of(members, *head, series, marks=marks, caption=caption)


def chart_of(
    members: Sequence[Member],
    id: str,
    title: str,
    place: str,
    y: Axis,
    series: list[Series] | None = None,
    note: str = "",
    **more: Any,
) -> Chart:
    """A chart of these lines, its stretches that were not finite, and what it averages."""
    found = list({source.place: source for source, _, _ in members}.values())
    shades, told = shading(found, place)
    notes = [note]
    width = max((line.width for _, _, line in members), default=1)
    if width > 1:
        notes.append(
            f"Each point is the mean of up to {width} recorded ones, "
            "bands reach from the smallest to the largest."
        )
    note = " ".join(filter(None, (*notes, told)))
    lines = _lines(members) if series is None else series
    return Chart(id, title, PLACES[place], y, lines, note=note, shades=shades, **more)


def shading(found: Sequence[Source], place: str) -> tuple[list[Shade], str]:
    """Steps or epochs that were not finite, as stretches and in words."""
    shades, told = [], []
    for source in found:
        spans = _not_finite(source, place)
        if spans.first is None:
            continue
        colour: int | str = style(source.place)[0] if len(found) > 1 else ""
        shades += [
            Shade(start, end, source.name("not finite"), colour) for start, end in spans.found
        ]
        what = f"{spans.count:,} recorded {place}{'s' * (spans.count > 1)} with NaN or infinity"
        told.append(source.name(f"{what}, the first is {show(spans.first)}"))
    return shades, f"Shaded: {'; '.join(told)}." if told else ""


def _not_finite(source: Source, place: str) -> Spans:
    metrics, telemetry = source.metrics, source.telemetry
    if place == "step" and telemetry.not_finite.count:
        return telemetry.not_finite
    return metrics.not_finite if metrics.x == place else Spans()


def _word(field: str, group: str) -> str:
    if field in WORDS:
        return WORDS[field]
    rest = re.sub(rf"_?{group}_?", " ", field).strip() if field != group else ""
    return {"val": "validation", "train": "training", "dev": "validation"}.get(rest, rest) or (
        "training" if group in ("loss", "perplexity") else group.replace("_", " ")
    )


def _lines(members: Sequence[Member]) -> list[Series]:
    """A colour and dash for each line; where they are many, colour by source, dash by word."""
    words = list(dict.fromkeys(word for _, word, _ in members))
    many = len({source.place for source, _, _ in members}) > 1
    few = len(members) <= len(PALETTE["light"])
    series = []
    for i, (source, word, line) in enumerate(members):
        if not many or (few and len(words) > 1):
            colour, dash = style(i)
        elif len(words) == 1:
            colour, dash = style(source.place)
        else:
            colour, dash = style(source.place)[0], style(words.index(word))[1]
        name = source.name(word) if not many or len(words) > 1 else source.label
        series.append(line.series(name, colour, dash))
    return series


def _spread(series: Sequence[Series]) -> float:
    values = [v for line in series for v in line.y if v is not None]
    return max(values) / min(values) if values and min(values) > 0 else 0.0


def norms(found: Sequence[Source]) -> list[Chart]:
    """Global gradient norm before and after clipping: by step, else by epoch."""
    charts = []
    by_step = [s for s in found if s.telemetry.steps]
    if by_step:
        charts.append(_step_norms(by_step))
    by_epoch = [s for s in found if s not in by_step and s.metrics.fields]
    members = [
        (s, WORDS[name], fields[name])
        for s in by_epoch
        for fields in [s.metrics.fields]
        for name in NORMS
        if name in fields and not _says_nothing(name, fields, len(by_epoch))
    ]
    clipped = any(word == WORDS["clipped_norm"] for _, word, _ in members)
    if members:
        x = members[0][0].metrics.x
        members = [member for member in members if member[0].metrics.x == x]
        note = (
            "The largest norms of the epochs are left out."
            if len(by_epoch) > MOST_WITH_EXTREMES else ""
        )  # fmt: skip
        charts.append(
            chart_of(
                members,
                "gradient-norm-by-epoch" if by_step else "gradient-norm",
                "Gradient norm",
                x,
                Axis("global L2 norm", "log"),
                note=note,
                marks=_thresholds(by_epoch),
                caption="Mean over the steps of an epoch."
                f"{'' if clipped else ' Nothing was clipped.'}",
            )
        )
    return charts


def _says_nothing(name: str, fields: Mapping[str, Line], sources: int) -> bool:
    """Whether a norm would only lie on another line, or be one too many to follow."""
    if name == "gradient_norm_max":
        return sources > MOST_WITH_EXTREMES
    if name == "clipped_norm" and "gradient_norm" in fields:
        before, after = (fields[n].series("").y for n in ("gradient_norm", name))
        return list(before) == list(after)
    return False


def _step_norms(found: Sequence[Source]) -> Chart:
    members, told = [], []
    for source in found:
        telemetry = source.telemetry
        members.append((source, WORDS["gradient_norm"], telemetry.before))
        if telemetry.method is None and not telemetry.clipped:
            told.append(source.name("nothing was clipped"))
            continue
        members.append((source, WORDS["clipped_norm"], telemetry.after))
        method = f" ({telemetry.method.replace('_', ' ')})" if telemetry.method else ""
        share = f"{telemetry.clipped / telemetry.steps:.0%} of the recorded steps were clipped"
        told.append(source.name(f"{share}{method}"))
    return chart_of(
        members,
        "gradient-norm",
        "Gradient norm, before and after clipping",
        "step",
        Axis("global L2 norm", "log"),
        marks=_thresholds(found),
        caption=f"{'; '.join(told) if len(told) > 1 else capital(told[0])}.",
    )


def _thresholds(found: Sequence[Source]) -> list[Mark]:
    at, methods = set(), set()
    for s in found:
        recorded = s.telemetry.steps > 0
        at.add(s.telemetry.threshold if recorded else s.run.settings.get("gradient_clip_val"))
        methods.add(s.telemetry.method)
    whole = {v for v in at if isinstance(v, (int, float)) and v > 0}
    per_step = methods - {None, "global_norm"}
    if len(whole) != 1 or per_step:
        return []
    value = whole.pop()
    return [Mark("y", value, f"clipped at {value:g}")]


def parameter_charts(source: Source, compared: Sequence[Telemetry]) -> list[Chart]:
    """Gradient norms and update ratios of each parameter, if telemetry was kept.

    Of all those that are ``compared`` the ones with the same parameters show the same of them.
    """
    telemetry = source.telemetry
    if not telemetry.parameters:
        return []
    own = telemetry.parameters.keys()
    alike = [each for each in compared if each.parameters.keys() == own]
    names = list(alike[0].parameters)

    def peak(name: str) -> float:
        return max((each.parameters[name].peak or (0.0,))[0] for each in alike)

    largest = set(sorted(names, key=peak, reverse=True)[:PARAMETERS_DRAWN])
    drawn = [name for name in names if name in largest]
    note = (
        f"Shown are the {len(drawn)} of {len(names)} parameters with the largest gradients; "
        "the table has all."
        if len(drawn) < len(names) else ""
    )  # fmt: skip
    kinds: tuple[tuple[str, str, Axis, str, list[Mark], str], ...] = (
        ("parameter-gradients", "gradient norm of each parameter",
         Axis("L2 norm before clipping", "log"), "gradient_norm", [],
         "What each parameter adds to the global norm."),
        ("update-ratios", "update-to-weight ratio",
         Axis("‖update‖ / ‖weights‖", "log"), "update_ratio",
         [Mark("y", USUAL_UPDATE_RATIO, "about 10⁻³ is usual")],
         "How far a step moves each parameter, beside its own length."),
    )  # fmt: skip
    charts = []
    for id, title, y, measure, marks, caption in kinds:
        members = [(source, n, getattr(telemetry.parameters[n], measure)) for n in drawn]
        if measure == "update_ratio" and not any(line.known for _, _, line in members):
            continue
        charts.append(
            chart_of(
                members,
                f"{id}-{slug(source.label)}" if source.label else id,
                source.name(title) if source.label else capital(title),
                "step",
                y,
                [line.series(name, *style(i)) for i, (_, name, line) in enumerate(members)],
                note,
                marks=marks,
                caption=caption,
                group=id if source.label else "",
            )
        )
    return charts


def saved(run: Run) -> list[Picture]:
    """The pictures of the run's `SAVED`; if it is damaged, that is noted in the run's problems."""
    file = run.path / SAVED
    if not file.is_file():
        return []
    try:
        found = read_json(file, MOST_CHARTS)
        if len(found) > MOST_SAVED:
            run.problems.append(f"{SAVED} has {len(found):,} pictures; {MOST_SAVED} are shown")
        return [_told_apart(from_dict(each)) for each in found[:MOST_SAVED]]
    except DAMAGED as error:
        run.problems.append(left_out(SAVED, error))
        return []


def _told_apart(picture: Picture) -> Picture:
    """The picture with a dash for each line, where only colours would tell them apart."""
    if not isinstance(picture, Chart) or {line.dash for line in picture.series} != {"solid"}:
        return picture
    series = [replace(line, dash=style(i)[1]) for i, line in enumerate(picture.series)]
    return replace(picture, series=series)


def capital(words: str) -> str:
    """A sentence's beginning."""
    return words[:1].upper() + words[1:]


def slug(text: str) -> str:
    """A name for links and files, as ``"lstm-layers-0"`` for ``"LSTM · layers.0"``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
