"""Which pictures a report shows, made from what runs have kept: curves of measures and norms.

`unrolled.report.through_time` makes those of recurrent layers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unrolled.report.look import PALETTE, style
from unrolled.report.reading import Metrics, Run
from unrolled.report.spec import Axis, Chart, Mark, Series
from unrolled.report.telemetry import Telemetry
from unrolled.report.thin import Line

STEP, EPOCH = Axis("training step"), Axis("epoch")
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


@dataclass(frozen=True)
class Source:
    """One model of one run: where a line comes from.

    Attributes:
        run: its run.
        part: name of the model in it; ``""`` where it has only one.
        label: what lines are called after; ``""`` where there is only one source.
        place: in the order of sources; chooses the colour.
    """

    run: Run
    part: str
    label: str
    place: int

    @property
    def metrics(self) -> Metrics | None:
        return self.run.metrics.get(self.part)

    @property
    def telemetry(self) -> Telemetry | None:
        return self.run.telemetry.get(self.part)

    def name(self, words: str) -> str:
        """``words`` and where from.

        Example:
            >>> Source(Run(None, "a"), "", "a", 0).name("training")
            'a: training'
        """
        return f"{self.label}: {words}" if self.label else words


def sources(runs: Sequence[Run], named: bool = False) -> list[Source]:
    """All models of all runs.

    Args:
        runs: of one experiment.
        named: whether there are runs of others beside them, so that one has to be named, too.
    """
    pairs = [
        (run, part)
        for run in runs
        for part in dict.fromkeys([*run.metrics, *run.telemetry]) or [""]
    ]
    named = named or len(runs) > 1
    if len(pairs) == 1 and not named:
        return [Source(*pairs[0], "", 0)]

    def label(run: Run, part: str) -> str:
        return " · ".join(name for name in (run.name if named else "", part) if name)

    return [Source(*pair, label(*pair) or "whole run", i) for i, pair in enumerate(pairs)]


def measures(found: Sequence[Source]) -> list[Chart]:
    """A chart for each measure of ``metrics.jsonl``: losses together, accuracies together."""
    groups: dict[str, list[tuple[Source, str]]] = {}
    for source in found:
        for name in source.metrics.fields if source.metrics else ():
            if name not in NORMS:
                groups.setdefault(_group(name), []).append((source, name))
    order = sorted(groups, key=lambda group: ("loss", "perplexity", "accuracy", group).index(group))
    return [_measure(group, groups[group]) for group in order]


def _group(field: str) -> str:
    for word in ("loss", "perplexity", "accuracy"):
        if word in field:
            return word
    return "accuracy" if "score" in field else field


def _measure(group: str, members: list[tuple[Source, str]]) -> Chart:
    first = members[0][0].run
    place = members[0][0].metrics.x  # type: ignore[union-attr]
    members = [(s, n) for s, n in members if s.metrics and s.metrics.x == place]
    series = _lines([(s, _word(n, group), s.metrics.fields[n]) for s, n in members if s.metrics])
    y, marks, caption = Axis(group.replace("_", " ")), [], ""
    if group == "loss":
        y = Axis(LOSSES.get(first.experiment, "loss (mean over the targets)"))
    elif group == "accuracy":
        y = Axis("accuracy (share of examples)", limits=(0, 1))
    elif group == "perplexity":
        y = Axis("perplexity, in characters")
        caption = "The number of characters that the model hesitates between; 1 is certainty."
        if first.vocabulary and len({s.run.vocabulary for s, _ in members}) == 1:
            marks.append(Mark("y", first.vocabulary, f"guessing among {first.vocabulary}"))
        heldout = first.summary.get("heldout_perplexity")
        if len({id(s.run) for s, _ in members}) == 1 and isinstance(heldout, (int, float)):
            caption += f" On text never seen it ends at {heldout:.3g}."
    if group != "accuracy" and _spread(series) > LOG_FROM_RATIO:
        y = replace(y, scale="log")
    title = {"loss": "Loss", "perplexity": "Perplexity", "accuracy": "Accuracy"}.get(
        group, group.replace("_", " ").capitalize()
    )
    return Chart(slug(group), title, Axis(place if place == "epoch" else STEP.title), y, series,
                 marks, caption)  # fmt: skip


def _word(field: str, group: str) -> str:
    if field in WORDS:
        return WORDS[field]
    rest = re.sub(rf"_?{group}_?", " ", field).strip() if field != group else ""
    return {"val": "validation", "train": "training", "dev": "validation"}.get(rest, rest) or (
        "training" if group in ("loss", "perplexity") else group
    )


def _lines(members: Sequence[tuple[Source, str, Line]]) -> list[Series]:
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
    by_step = [s for s in found if s.telemetry is not None and s.telemetry.steps]
    if by_step:
        charts.append(_step_norms(by_step))
    by_epoch = [s for s in found if s not in by_step and s.metrics is not None]
    members = [
        (s, WORDS[name], fields[name])
        for s in by_epoch
        if s.metrics and (fields := s.metrics.fields)
        for name in NORMS
        if name in fields and not _says_nothing(name, fields, len(by_epoch))
    ]
    clipped = any(word == WORDS["clipped_norm"] for _, word, _ in members)
    if members:
        x = members[0][0].metrics.x  # type: ignore[union-attr]
        charts.append(
            Chart(
                "gradient-norm-by-epoch" if by_step else "gradient-norm",
                "Gradient norm",
                Axis(x if x == "epoch" else STEP.title),
                Axis("global L2 norm", "log"),
                _lines(members),
                _thresholds(by_epoch),
                f"Mean over the steps of an epoch. {'' if clipped else 'Nothing was clipped.'}",
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
        if telemetry is None:
            continue
        members.append((source, WORDS["gradient_norm"], telemetry.before))
        if telemetry.method is None:
            told.append(source.name("nothing was clipped"))
            continue
        members.append((source, WORDS["clipped_norm"], telemetry.after))
        share = f"{telemetry.clipped / telemetry.steps:.0%} of the steps were clipped"
        told.append(source.name(f"{share} ({telemetry.method.replace('_', ' ')})"))
    return Chart(
        "gradient-norm",
        "Gradient norm, before and after clipping",
        STEP,
        Axis("global L2 norm", "log"),
        _lines(members),
        _thresholds(found),
        f"{'; '.join(told)}.{_bands(members)}",
    )


def _bands(members: Sequence[tuple[Source, str, Line]]) -> str:
    width = max((line.width for _, _, line in members), default=1)
    if width == 1:
        return ""
    return f" Lines are means of {width} steps, bands reach from the smallest to the largest."


def _thresholds(found: Sequence[Source]) -> list[Mark]:
    at = {
        s.telemetry.threshold if s.telemetry else s.run.settings.get("gradient_clip_val")
        for s in found
    }
    whole = {v for v in at if isinstance(v, (int, float)) and v > 0}
    per_step = {s.telemetry.method for s in found if s.telemetry} - {None, "global_norm"}
    if len(whole) != 1 or len(at) != 1 or per_step:
        return []
    value = whole.pop()
    return [Mark("y", value, f"clipped at {value:g}")]


def parameter_charts(source: Source) -> list[Chart]:
    """Gradient norms and update ratios of each parameter, if telemetry was kept."""
    telemetry = source.telemetry
    if telemetry is None or not telemetry.parameters:
        return []
    by_peak = sorted(telemetry.parameters, key=lambda n: -(telemetry.parameters[n].peak or (0,))[0])
    drawn = [n for n in telemetry.parameters if n in by_peak[:PARAMETERS_DRAWN]]
    left_out = len(telemetry.parameters) - len(drawn)
    few = f" The {len(drawn)} largest; {left_out} more stand in the table." if left_out else ""
    end = f"-{slug(source.label)}" if source.label else ""
    charts = [
        Chart(
            f"parameter-gradients{end}",
            _titled(source, "gradient norm of each parameter"),
            STEP,
            Axis("L2 norm before clipping", "log"),
            [telemetry.parameters[n].gradient_norm.series(n, *style(i))
             for i, n in enumerate(drawn)],
            caption=f"What each parameter adds to the global norm.{few}",
        )
    ]  # fmt: skip
    ratios = [
        telemetry.parameters[n].update_ratio.series(n, *style(i)) for i, n in enumerate(drawn)
    ]
    if any(v is not None for line in ratios for v in line.y):
        charts.append(
            Chart(
                f"update-ratios{end}",
                _titled(source, "update-to-weight ratio"),
                STEP,
                Axis("‖update‖ / ‖weights‖", "log"),
                ratios,
                [Mark("y", USUAL_UPDATE_RATIO, "about 10⁻³ is usual")],
                f"How far a step moves each parameter, beside its own length.{few}",
            )
        )
    return charts


def _titled(source: Source, words: str) -> str:
    alone = source.name(words) == words  # else a run's name comes first: it stays as it is
    return words[0].upper() + words[1:] if alone else source.name(words)


def slug(text: str) -> str:
    """A name for links and files.

    Example:
        >>> slug("LSTM · layers.0")
        'lstm-layers-0'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
