"""Charts of gradients through time."""

from collections.abc import Sequence

from unrolled.report.charts import STEP, Source, chart_of, shading
from unrolled.report.spec import DECADES, Axis, Chart, Heatmap, Mark, Picture, Series
from unrolled.report.style import style
from unrolled.report.telemetry import Layer

MOST_ROWS = 128
"""Rows of a heatmap; of longer sequences each row is the mean of neighbouring time steps."""

MOST_LAYERS = 10
"""Layers that are drawn; a page with hundreds of heatmaps would not open."""

TIME_STEP = Axis("time step t", whole=True)
NORM = "‖∂L/∂h‖, batch mean"

Named = list[tuple[Source, str, Layer]]


def pictures(found: Sequence[Source]) -> list[Picture]:
    """All pictures of gradients through time: heatmaps, profiles, curves over the steps."""
    layers = [(s, n, x) for s in found for n, x in s.telemetry.layers.items()]
    drawn, rest = layers[:MOST_LAYERS], layers[MOST_LAYERS:]
    few = f"Shown are the first {MOST_LAYERS} of {len(layers)} layers." if rest else ""
    traced = [each for each in drawn if any(each[2].gradients.values)]
    return [
        *(heatmap(*each, number, few) for number, each in enumerate(traced, 1)),
        *profiles(traced, few),
        *over_steps(drawn, few),
    ]


def heatmap(source: Source, name: str, layer: Layer, number: int, few: str) -> Heatmap:
    """The norm of dL/dh_t over training step and time step, its horizon, the truncation points.

    Its id counts layers, so that those of compared runs meet whatever they are called.
    """
    rows, values, size = _rows(layer.gradients.values)
    T = max(map(len, layer.gradients.values), default=0)
    backward = name.endswith(".backward")
    reach = layer.horizon_steps.series("reaches so far (1% of its last)")
    # forward the gradient comes from the last step, backward from the first
    y = [None if r is None else (r if backward else T - 1 - r) for r in reach.y]
    inside = [b for b in layer.truncation_points if 0 < b < T]
    width = layer.gradients.width
    shades, told = shading([source], "step")
    notes = [few, told]
    if width > 1:
        notes.append(f"Each column is the mean of up to {width} recorded steps.")
    if size > 1:
        notes.append(f"Each row is the mean of {size} time steps.")
    found = [v for column in values for v in column if v is not None]
    if any(v < max(found) / 10**DECADES for v in found):
        notes.append(f"The colours end {DECADES} decades below the largest norm.")
    return Heatmap(
        id=f"through-time-{number}",
        title=f"Gradient through time: {source.name(name)}",
        x=STEP,
        y=TIME_STEP,
        z=Axis(NORM, "log"),
        columns=layer.gradients.x,
        rows=rows,
        values=values,
        overlays=[Series(reach.label, reach.x, y, dash="dashed")],
        marks=[Mark("y", b - 0.5, "cut by truncation") for b in inside]
        + [Mark("y", -0.5, "cut by truncation")] * (0 in layer.truncation_points),
        caption=f"Each column is a step of training; read it from its "
        f"{'bottom' if backward else 'top'}, where the loss is nearest, "
        f"{'up' if backward else 'down'}: bright is a strong gradient, dark a vanished one.",
        note=" ".join(filter(None, notes)),
        shades=shades,
    )


def profiles(layers: Named, few: str) -> list[Chart]:
    """The norm of dL/dh_t against t: one layer at several times, or several at the end."""
    kinds = (
        ("gradient-profile", "How far back the gradient reaches", NORM, "gradients",
         "A straight line falls by the same factor at every step back."),
        ("weight-gradient-split", "What each time step adds to ∂L/∂W_hh",
         "L2 norm of a time step's part", "split",
         "The parts add up to the gradient of the recurrent weights."),
    )  # fmt: skip
    charts = []
    for id, title, y, kind, caption in kinds:
        columns = [(s.name(n), getattr(layer, kind)) for s, n, layer in layers]
        columns = [(name, each) for name, each in columns if each.x]
        if not columns:
            continue
        if len(layers) == 1:
            name, each = columns[0]
            known = [i for i, v in enumerate(each.values) if any(x is not None for x in v)]
            last = len(known) - 1
            picked = sorted({known[round(part * last / 3)] for part in range(4)}) if known else []
            lines = [(f"step {each.x[i]:,.0f}", each.values[i]) for i in picked]
            of = f": {name}"
        else:
            lines, of = [(name, each.values[-1]) for name, each in columns], ", in the last record"
        series = [
            Series(label, list(range(len(v))), v, (), (), *style(i))
            for i, (label, v) in enumerate(lines)
        ]
        axes = TIME_STEP, Axis(y, "log")
        charts.append(Chart(id, f"{title}{of}", *axes, series, caption=caption, note=few))
    return charts


def over_steps(layers: Named, few: str) -> list[Chart]:
    """Reach, fall per step, and share of saturated units against the training step."""
    level = [Mark("y", 1.0, "neither vanishes nor explodes")]
    kinds: tuple[tuple[str, str, Axis, list[Mark]], ...] = (
        ("horizon_steps", "Reach of the gradient",
         Axis("steps back with 1% or more", limits=(0, None)), []),
        ("fall", "Fall of the gradient per step back", Axis("factor per step", "log"), level),
        ("saturated", "Saturated units", Axis("share of units with |h| > 0.99", limits=(0, 1)), []),
    )  # fmt: skip
    charts = []
    for kind, title, y, marks in kinds:
        lines = [(s, n, getattr(layer, kind)) for s, n, layer in layers]
        lines = [each for each in lines if each[2].known]
        if not lines:
            continue
        series = [x.series(s.name(n), *style(i)) for i, (s, n, x) in enumerate(lines)]
        charts.append(chart_of(lines, kind, title, "step", y, series, few, marks=marks))
    return charts


def _rows(
    columns: Sequence[Sequence[float | None]],
) -> tuple[list[float], list[list[float | None]], int]:
    """Time steps of the rows, and columns with so many; of how many steps a row is the mean."""
    T = max(map(len, columns), default=0)
    size = -(-T // MOST_ROWS) or 1
    if size == 1:
        return list(map(float, range(T))), [list(column) for column in columns], 1
    rows = [(start + min(start + size, T) - 1) / 2 for start in range(0, T, size)]

    def mean(part: Sequence[float | None]) -> float | None:
        known = [v for v in part if v is not None]
        return sum(known) / len(known) if known else None

    cut = [[mean(c[start : start + size]) for start in range(0, T, size)] for c in columns]
    return rows, cut, size
