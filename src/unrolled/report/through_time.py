"""Pictures of gradients through time, from the telemetry of recurrent layers."""

from collections.abc import Sequence

from unrolled.report.charts import STEP, Source, slug
from unrolled.report.look import style
from unrolled.report.spec import Axis, Chart, Heatmap, Mark, Series
from unrolled.report.telemetry import Layer

MOST_ROWS = 128
"""Rows of a heatmap; of longer sequences each row is the mean of neighbouring time steps."""

TIME_STEP = Axis("time step t")
NORM = "‖∂L/∂h‖, batch mean"


def heatmap(source: Source, name: str, layer: Layer) -> Heatmap:
    """The norm of dL/dh_t over training step and time step, the reach, the borders."""
    rows, values = _rows(layer.gradients.values)
    T = max(map(len, layer.gradients.values), default=0)
    backward = name.endswith(".backward")
    reach = layer.reach.series("reaches so far (1% of its last)")
    # forward the gradient comes from the last step, backward from the first
    y = [None if r is None else (r if backward else T - 1 - r) for r in reach.y]
    inside = [b for b in layer.borders if 0 < b < T]
    each = "" if layer.gradients.width == 1 else f", the mean of {layer.gradients.width} steps"
    return Heatmap(
        id=f"through-time-{slug(source.name(name))}",
        title=f"Gradient through time: {source.name(name)}",
        x=STEP,
        y=TIME_STEP,
        z=Axis(NORM, "log"),
        columns=layer.gradients.x,
        rows=rows,
        values=values,
        overlays=[Series(reach.label, reach.x, y, dash="dashed")],
        marks=[Mark("y", b - 0.5, "cut by truncation") for b in inside]
        + [Mark("y", -0.5, "cut by truncation")] * (0 in layer.borders),
        caption=f"Each column is a step of training{each}; read it from its "
        f"{'bottom' if backward else 'top'}, where the loss is nearest, "
        f"{'up' if backward else 'down'}: bright is a strong gradient, dark a vanished one.",
    )


def profiles(found: Sequence[Source]) -> list[Chart]:
    """The norm of dL/dh_t against t: one layer at several times, or several at the end."""
    layers = [(s, n, x) for s in found if s.telemetry for n, x in s.telemetry.layers.items()]
    layers = [(s, n, x) for s, n, x in layers if x.gradients.x]
    if len(layers) == 1:
        (_, name, layer) = layers[0]
        columns = layer.gradients
        picked = sorted({round(part * (len(columns.x) - 1) / 3) for part in range(4)})
        gradient = _profile([(f"step {columns.x[i]:,.0f}", columns.values[i]) for i in picked])
        of = f": {name}"
        splits = layer.split
        parts = sorted({round(part * (len(splits.x) - 1) / 3) for part in range(4)})
        split = _profile(
            [(f"step {splits.x[i]:,.0f}", splits.values[i]) for i in parts if splits.x]
        )
    else:
        gradient = _profile([(s.name(n), x.gradients.values[-1]) for s, n, x in layers])
        split = _profile([(s.name(n), x.split.values[-1]) for s, n, x in layers if x.split.x])
        of = ", at the end of training"
    charts = []
    if gradient:
        charts.append(
            Chart(
                "gradient-profile",
                f"How far back the gradient reaches{of}",
                TIME_STEP,
                Axis(NORM, "log"),
                gradient,
                caption="A straight line falls by the same factor at every step back.",
            )
        )
    if split:
        charts.append(
            Chart(
                "weight-gradient-split",
                f"What each time step adds to ∂L/∂W_hh{of}",
                TIME_STEP,
                Axis("L2 norm of a time step's part", "log"),
                split,
                caption="The parts add up to the gradient of the recurrent weights.",
            )
        )
    return charts


def over_steps(found: Sequence[Source]) -> list[Chart]:
    """Reach, fall per step, and share of saturated units against the training step."""
    layers = [(s, n, x) for s in found if s.telemetry for n, x in s.telemetry.layers.items()]
    kinds: tuple[tuple[str, str, Axis, list[Mark]], ...] = (
        (
            "reach",
            "Reach of the gradient",
            Axis("steps back with 1% or more", limits=(0, None)),
            [],
        ),
        (
            "fall",
            "Fall of the gradient per step back",
            Axis("factor per step", "log"),
            [Mark("y", 1.0, "neither vanishes nor explodes")],
        ),
        (
            "saturated",
            "Saturated units",
            Axis("share of units with |h| > 0.99", limits=(0, 1)),
            [],
        ),
    )
    charts = []
    for kind, title, y, marks in kinds:
        series = [
            getattr(layer, kind).series(source.name(name), *style(i))
            for i, (source, name, layer) in enumerate(layers)
        ]
        series = [line for line in series if any(v is not None for v in line.y)]
        if series:
            charts.append(Chart(kind, title, STEP, y, series, marks))
    return charts


def _profile(columns: Sequence[tuple[str, Sequence[float | None]]]) -> list[Series]:
    return [
        Series(label, list(range(len(values))), values, colour=style(i)[0], dash=style(i)[1])
        for i, (label, values) in enumerate(columns)
    ]


def _rows(
    columns: Sequence[Sequence[float | None]],
) -> tuple[list[float], list[list[float | None]]]:
    """Time steps of the rows, and columns with so many; neighbours become their mean."""
    T = max(map(len, columns), default=0)
    size = -(-T // MOST_ROWS) or 1
    if size == 1:
        return list(map(float, range(T))), [list(column) for column in columns]
    rows = [(start + min(start + size, T) - 1) / 2 for start in range(0, T, size)]

    def mean(part: Sequence[float | None]) -> float | None:
        known = [v for v in part if v is not None]
        return sum(known) / len(known) if known else None

    return rows, [[mean(c[start : start + size]) for start in range(0, T, size)] for c in columns]
