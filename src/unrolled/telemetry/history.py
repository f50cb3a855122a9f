"""`History`: a training's records as columns of numbers, for the diagnosis.

Of each record, which is large, only a few numbers per parameter and layer are kept, so that a long
file can be read line by line.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.telemetry.records import LayerRecord, TelemetryRecord

Column = npt.NDArray[np.float64]


class Table:
    """Columns of equal length by name; NaN where a row has no value."""

    def __init__(self) -> None:
        self.length = 0
        self._columns: dict[str, array[float]] = {}

    def add(self, row: int, values: Mapping[str, float | None]) -> None:
        """Set the values of a new row; rows left out are NaN."""
        self.length = max(self.length, row + 1)
        for name, value in values.items():
            column = self._columns.setdefault(name, array("d"))
            column.extend([math.nan] * (row + 1 - len(column)))
            if value is not None:
                column[row] = value

    def __getitem__(self, name: str) -> Column:
        column = np.full(self.length, np.nan)
        values = self._columns.get(name, array("d"))
        column[: len(values)] = values
        return column


class History:
    """What is known of a training.

    Attributes:
        steps: ``step``, ``epoch``, ``loss``, ``norm``, ``clipped``, ``coefficient``,
            ``threshold``, ``rate``, ``decay``, ``uncleared`` and ``late`` of every record;
            ``weights`` and ``moved``, the norms of all weights and of the whole update, and
            ``update``, their quotient.
        parameters: ``gradient`` and ``clipped`` (its norms), ``weight`` (norm), ``update``
            (ratio) and ``unused``, by name.
        layers: by name; see `layer_row`.
        epochs: the lines of ``metrics.jsonl``, or whatever is known of epochs.
        summary: of the run.
        optimizer: its class, or several joined by ``" + "``; None if it is not known.
        cells: kinds of cells by layer, as far as they are known.
        alternates: whether several optimizers take turns, as in adversarial training.
        first_not_finite: step and name of the tensor, once there was one.
    """

    def __init__(self, summary: Mapping[str, Any] | None = None) -> None:
        self.steps = Table()
        self.parameters: dict[str, Table] = {}
        self.layers: dict[str, Table] = {}
        self.epochs: list[Mapping[str, Any]] = []
        self.summary = dict(summary or {})
        self.first_not_finite: tuple[int, str] | None = None
        self.optimizers: Counter[str] = Counter()
        self.cells: dict[str, str] = {}
        self.turns: set[frozenset[str]] = set()

    @property
    def optimizer(self) -> str | None:
        return next((name for name, _ in self.optimizers.most_common(1)), None)

    @property
    def alternates(self) -> bool:
        return any(not one & other for one in self.turns for other in self.turns)

    def add(self, record: TelemetryRecord) -> None:
        """Take the numbers of one more step."""
        row = self.steps.length
        update = weights = 0.0
        for name, p in record.parameters.items():
            values = {
                "gradient": p.gradient_norm,
                "clipped": p.clipped_norm,
                "weight": p.weight_norm,
                "update": p.update_ratio,
                "unused": float(name in record.unused),
            }
            self.parameters.setdefault(name, Table()).add(row, values)
            weight = p.weight_norm or 0.0
            weights = math.hypot(weights, weight)
            update = math.hypot(update, (p.update_ratio or 0.0) * weight)
        moved = frozenset(n for n, p in record.parameters.items() if p.update_ratio)
        if moved:
            self.turns.add(moved)
        if record.optimizer is not None:
            self.optimizers[record.optimizer] += 1
        self.steps.add(
            row,
            {
                "step": record.step,
                "epoch": record.epoch,
                "loss": record.loss,
                "norm": record.gradient_norm,
                "clipped": record.clipped_norm,
                "coefficient": record.clip_coefficient,
                "threshold": record.clip_threshold,
                "rate": record.learning_rate,
                "decay": record.weight_decay,
                "uncleared": float(record.uncleared),
                "late": record.scaled_late,
                "weights": weights or None,
                "moved": update or None,
                "update": update / weights if update and weights else None,
            },
        )
        for name, layer in record.layers.items():
            self.layers.setdefault(name, Table()).add(row, layer_row(name, layer))
            if layer.cell is not None:
                self.cells[name] = layer.cell
        if self.first_not_finite is None:
            first = record.first_not_finite or _not_finite(record)
            if first is not None:
                self.first_not_finite = (record.step, first)

    def complete(self) -> None:
        """Give all tables as many rows as there are records."""
        for table in (*self.parameters.values(), *self.layers.values()):
            table.length = self.steps.length

    def losses(self) -> tuple[Column, Column]:
        """Steps and losses that are finite: of the epochs only if there are more of them."""
        epochs = [(e.get("step", e.get("epoch")), e.get("loss")) for e in self.epochs]
        epochs = [pair for pair in epochs if all(isinstance(x, int | float) for x in pair)]
        steps, loss = self.steps["step"], self.steps["loss"]
        known = np.isfinite(loss)
        if known.sum() < len(epochs):
            both = np.array(epochs, dtype=float).reshape(-1, 2)
            known = np.isfinite(both[:, 1])
            return both[known, 0], both[known, 1]
        return steps[known], loss[known]


ENOUGH = 20
"""Values from which on a trend can be told from noise."""


def layer_row(name: str, layer: LayerRecord) -> dict[str, float | None]:
    """The few numbers of a layer at one step that findings need.

    Returns:
        ``saturated``, ``horizon_steps``, ``decay``; ``window``, the steps from the last
        truncation point on;
        ``first``, ``middle`` and ``last``: mean norm of dL/dh_t at that point, halfway,
        and at the last step; ``weights``: length of all parts of dL/dW_hh; ``truncated``,
        1 if there is such a point; of each gate the shares ``"forget shut"`` and ``"forget open"``.
    """
    reverse = name.endswith(".backward")
    norms = layer.hidden_gradient_mean[::-1] if reverse else layer.hidden_gradient_mean
    first = max([b for b in layer.truncation_points if 0 <= b < len(norms)], default=0)
    window = norms[first:]
    parts = layer.weight_gradient_per_step
    return {
        "saturated": layer.saturated,
        "horizon_steps": layer.horizon_steps,
        "decay": layer.decay_per_step,
        "window": len(window),
        "first": window[0] if window else None,
        "middle": window[len(window) // 2] if window else None,
        "last": window[-1] if window else None,
        "weights": math.hypot(*parts) if parts else None,
        "truncated": float(bool(layer.truncation_points)),
        **{f"{gate} shut": shares[0] for gate, shares in layer.gates.items()},
        **{f"{gate} open": shares[1] for gate, shares in layer.gates.items()},
    }


def _not_finite(record: TelemetryRecord) -> str | None:
    for name, parameter in record.parameters.items():
        if not parameter.finite:
            return name
    numbers = {"loss": record.loss, "gradient": record.gradient_norm}
    return next((n for n, v in numbers.items() if v is not None and not math.isfinite(v)), None)
