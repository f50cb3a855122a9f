"""`History`: a training's records as columns of numbers, which all findings read.

Of each record, which is large, only a few numbers per parameter and layer are kept, so that a long
file can be read line by line.
"""

import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from unrolled.functional.bptt import STEPS
from unrolled.telemetry.columns import Table
from unrolled.telemetry.facts import Clip, Loss, clip_of, course_of, is_adaptive
from unrolled.telemetry.records import LayerRecord, TelemetryRecord
from unrolled.training.not_finite import STOP, what_was_done
from unrolled.untrusted import MOST_PARAMETERS


class History:
    """A training as the lines of its logs and the summary of its run tell it."""

    def __init__(self, summary: Mapping[str, Any] | None = None) -> None:
        self.steps = Table()  # of every record; see `add`
        self.parameters: dict[str, Table] = {}  # by name: norms, update ratio, whether unused
        self.layers: dict[str, Table] = {}  # by name; see `layer_row`
        self.epochs: list[Mapping[str, Any]] = []  # the lines of metrics.jsonl
        self.summary = dict(summary or {})
        self.first_not_finite: tuple[int, str] | None = None  # its step and the tensor's name
        # the steps that were not finite and did not end the training, by what was done
        self.recovered: dict[str, list[int]] = {}
        self.stopped = False  # whether one ended it
        self.optimizers: Counter[str] = Counter()  # how many steps each made
        self.cells: dict[str, str] = {}  # by layer, as far as they are known
        self.turns: set[frozenset[str]] = set()  # parameters that have moved together

    @property
    def alternates(self) -> bool:
        """Whether several optimizers take turns, as in adversarial training."""
        return any(not one & other for one in self.turns for other in self.turns)

    def add(self, record: TelemetryRecord) -> None:
        """Take the numbers of one more step."""
        row = self.steps.length
        update = weights = 0.0
        for name, p in record.parameters.items():
            if name not in self.parameters and len(self.parameters) >= MOST_PARAMETERS:
                continue
            values = {
                "gradient": p.gradient_norm,
                "clipped": p.clipped_norm,
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
                "loss": record.loss,
                "norm": record.gradient_norm,
                "clipped": record.clipped_norm,
                "coefficient": record.clip_coefficient,
                "threshold": record.clip_threshold,
                "rate": record.learning_rate,
                "decay": record.weight_decay,
                "uncleared": float(record.uncleared),
                "late": record.scaled_late,
                "weights": weights or None,  # the norm of all of them
                "moved": update or None,  # that of the whole update
                "update": update / weights if update and weights else None,
            },
        )
        for name, layer in record.layers.items():
            self.layers.setdefault(name, Table()).add(row, layer_row(name, layer))
            if layer.cell in STEPS:  # files may name others
                self.cells[name] = layer.cell
        if self.first_not_finite is None:
            first = record.first_not_finite or _not_finite(record)
            if first is not None:
                self.first_not_finite = (record.step, first)
        if record.on_nonfinite == STOP:
            self.stopped = True
        elif record.on_nonfinite is not None:
            self.recovered.setdefault(what_was_done(record), []).append(record.step)

    def complete(self) -> None:
        """Give all tables as many rows as there are records."""
        for table in (*self.parameters.values(), *self.layers.values()):
            table.length = self.steps.length

    @cached_property
    def loss(self) -> Loss:
        """The losses of steps, or of epochs if more are known; none if several take turns."""
        steps, values = self.steps["step"], self.steps["loss"]
        epochs = [(e.get("step", e.get("epoch")), e.get("loss")) for e in self.epochs]
        epochs = [pair for pair in epochs if all(isinstance(x, int | float) for x in pair)]
        if np.isfinite(values).sum() < len(epochs):
            steps, values = np.array(epochs, dtype=float).T
        known = np.isfinite(values) & (not self.alternates)
        return course_of(steps[known], values[known])

    @cached_property
    def clip(self) -> Clip:
        """The clipping in force."""
        return clip_of(self.steps, self.parameters.values())

    @cached_property
    def is_adaptive(self) -> bool | None:
        """Whether the optimizer's step does not grow with the gradient; None if not known."""
        optimizer = next((name for name, _ in self.optimizers.most_common(1)), "")
        return is_adaptive(optimizer, self.steps)


def layer_row(name: str, layer: LayerRecord) -> dict[str, float | None]:
    """The few numbers of a layer at one step that findings need."""
    reverse = name.endswith(".backward")
    norms = layer.hidden_gradient_mean[::-1] if reverse else layer.hidden_gradient_mean
    first = max([b for b in layer.truncation_points if 0 <= b < len(norms)], default=0)
    window = norms[first:]
    parts = layer.weight_gradient_per_step
    return {
        "saturated": layer.saturated,
        "horizon_steps": layer.horizon_steps,
        "decay": layer.decay_per_step,
        "truncated": float(bool(layer.truncation_points)),
        "window": len(window),  # steps from the last truncation point on
        # mean norms of dL/dh_t at that point, halfway, and at the last step
        "first": window[0] if window else None,
        "middle": window[len(window) // 2] if window else None,
        "last": window[-1] if window else None,
        "weights": math.hypot(*parts) if parts else None,  # norm of all parts of dL/dW_hh
        **{
            f"{gate} {how}": share
            for gate, shares in layer.gates.items()
            for how, share in zip(("shut", "open"), shares, strict=False)
        },
    }


def _not_finite(record: TelemetryRecord) -> str | None:
    for name, parameter in record.parameters.items():
        if not parameter.finite:
            return name
    numbers = {"loss": record.loss, "gradient": record.gradient_norm}
    return next((n for n, v in numbers.items() if v is not None and not math.isfinite(v)), None)
