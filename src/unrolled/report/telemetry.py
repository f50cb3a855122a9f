"""Curves of a run's telemetry for the report, kept at a bounded size."""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from unrolled.report.downsample import Columns, Line, Spans
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord
from unrolled.untrusted import MOST_PARAMETERS

PARAMETER_POINTS = 150
"""There may be hundreds of parameters, so their curves are coarser."""


MOST_GROUPS = 100
"""Parameter groups whose learning rates are drawn."""


@dataclass
class Layer:
    """One recurrent layer over the training steps."""

    gradients: Columns = field(default_factory=Columns)  # norms of dL/dh_t, batch mean
    split: Columns = field(default_factory=Columns)  # norms of the parts of dL/dW_hh
    horizon_steps: Line = field(default_factory=Line)
    fall: Line = field(default_factory=Line)
    saturated: Line = field(default_factory=Line)
    truncation_points: list[int] = field(default_factory=list)  # of the last record

    def add(self, step: int, record: LayerRecord) -> None:
        """Take in one step."""
        self.gradients.add(step, record.hidden_gradient_mean)
        if record.weight_gradient_per_step:
            self.split.add(step, record.weight_gradient_per_step)
        self.horizon_steps.add(step, record.horizon_steps)
        self.fall.add(step, record.decay_per_step)
        self.saturated.add(step, record.saturated)
        self.truncation_points = record.truncation_points


@dataclass
class Parameter:
    """One parameter over the training: curves, and the last record."""

    gradient_norm: Line = field(default_factory=lambda: Line(PARAMETER_POINTS))
    update_ratio: Line = field(default_factory=lambda: Line(PARAMETER_POINTS))
    peak: tuple[float, int] | None = None  # largest gradient norm, and its step
    last: ParameterRecord | None = None

    def add(self, step: int, record: ParameterRecord) -> None:
        """Take in one step."""
        self.gradient_norm.add(step, record.gradient_norm)
        self.update_ratio.add(step, record.update_ratio)
        norm = record.gradient_norm
        if norm is not None and (self.peak is None or norm > self.peak[0]):
            self.peak = norm, step
        self.last = record


class Telemetry:
    """Curves of the steps of one model's training."""

    def __init__(self) -> None:
        self.steps = 0
        self.clipped = 0  # steps on which the gradient was shortened
        self.loss = Line()
        self.before, self.after = Line(), Line()  # global norm before and after clipping
        self.method: str | None = None  # how it was clipped last
        self.threshold: float | None = None
        self.parameters: dict[str, Parameter] = defaultdict(Parameter)
        self.layers: dict[str, Layer] = defaultdict(Layer)
        # by parameter group, "" where one holds for all
        self.learning_rates: dict[str, Line] = defaultdict(Line)
        self.not_finite = Spans()

    def add(self, record: TelemetryRecord) -> None:
        """Take in the next step."""
        step = record.step
        self.steps += 1
        self.loss.add(step, record.loss)
        self.before.add(step, record.gradient_norm)
        self.after.add(step, record.clipped_norm)
        coefficient = record.clip_coefficient
        self.clipped += coefficient is not None and coefficient < 1
        if record.clip_method is not None:
            self.method, self.threshold = record.clip_method, record.clip_threshold
        for name, parameter in record.parameters.items():
            if name in self.parameters or len(self.parameters) < MOST_PARAMETERS:
                self.parameters[name].add(step, parameter)
        for name, layer in record.layers.items():
            self.layers[name].add(step, layer)
        self._add_rates(step, record.learning_rate, record.learning_rates[:MOST_GROUPS])
        finite = all(parameter.finite for parameter in record.parameters.values())
        self.not_finite.add(step, record.first_not_finite is not None or not finite)

    def _add_rates(self, step: int, rate: float | None, of_groups: Sequence[float]) -> None:
        """One line until groups differ, from then on one for each."""
        if of_groups and (one := self.learning_rates.pop("", None)):
            for i in range(1, len(of_groups) + 1):
                self.learning_rates[f"group {i}"] = deepcopy(one)
        rates: dict[str, float | None]
        if of_groups:
            rates = {f"group {i}": each for i, each in enumerate(of_groups, 1)}
        else:
            rates = dict.fromkeys(self.learning_rates or [""], rate)
        for name, each in rates.items():
            if each is not None:
                self.learning_rates[name].add(step, each)
