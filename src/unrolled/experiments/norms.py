"""Record gradient norms of a recurrent layer at every step, and count explosions."""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from unrolled.telemetry.findings.gradients import EXPLODED_NORM
from unrolled.telemetry.layers import layer_record
from unrolled.telemetry.measures import changes, coefficient, norms
from unrolled.telemetry.recorder import optimizer_fields
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord
from unrolled.telemetry.through_time import layer_numbers
from unrolled.training.records import Backward, Listener, StepRecord
from unrolled.training.tracing import TracedLayer

WATCHED = {name: f"rnn_model.{name}" for name in ("W", "U", "b")}
"""The parameters of the recurrent layer, and what the model calls them."""

SILENT = 1e-6
"""A gradient norm below this moves nothing."""

DEAD, BURSTS, DEAD_STEPS = 0.01, 0.05, 20
"""Dead is a gradient whose norm, from some step on, stays below this share of what it began
with; but for this share of the steps at most; and for so many steps or more.

Another thing is a layer's part of the whole gradient of the same step, which is what the diagnosis
of any run asks for (`unrolled.telemetry.findings.gradients.DEAD`): here one layer is looked at, as
the published figures do, and all others may fall silent with it.

Not `SILENT`, and not always: with most units saturated, a minibatch with one that is not
still gives a little, and once in a while a burst, too little to bring the others back. And a
short silence at the end is no death.
"""

SETTLED = 100
"""The median is that of the steps after this one."""


class Norms(Listener):
    """Gradient norms of W, U and b at every step, and the share of saturated units.

    Args:
        backend: the framework's.
        write: takes the record of every step as plain data.

    Attributes:
        before, after: by ``"W"``, ``"U"``, ``"b"`` the norms at every step, before and after
            clipping.
        recurrent: the norm of the three together before clipping.
        saturated: share of hidden units of the minibatch with ``|h| > 0.99``.
    """

    def __init__(self, backend: Any, write: Callable[[dict[str, Any]], None]) -> None:
        self.backend, self.write = backend, write
        self.before: dict[str, list[float]] = {name: [] for name in WATCHED}
        self.after: dict[str, list[float]] = {name: [] for name in WATCHED}
        self.recurrent: list[float] = []
        self.saturated: list[float] = []
        self._weights: dict[str, float] = {}
        self._gradients: tuple[dict[str, float], dict[str, float]] = {}, {}
        self._layers: dict[str, LayerRecord] = {}

    def on_batch(self, trainer: Any, step: int) -> bool:
        return True  # gradients through time, at every step

    def on_backward(self, trainer: Any, backward: Backward) -> None:
        before, after = self._norms(backward.gradients), self._norms(backward.clipped)
        for name, parameter in WATCHED.items():
            self.before[name].append(before[parameter])
            self.after[name].append(after[parameter])
        self.recurrent.append(math.hypot(*(before[name] for name in WATCHED.values())))
        self._weights = self._norms(trainer.parameters)
        self._gradients = before, after
        traced = backward.through_time.layers if backward.through_time else {}
        self._layers = {name: self._layer(layer) for name, layer in traced.items()}
        (layer,) = self._layers.values()
        self.saturated.append(layer.saturated or 0.0)

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        clips = trainer.gradient_clip_val > 0
        new, old, weights = trainer.parameters, trainer.last_good, self._weights
        with trainer.backend.without_gradients():
            moved = changes(self.backend.xp, tuple(new.values()), tuple(old[name] for name in new))
        updates = dict(zip(new, self.backend.to_numpy(moved).tolist(), strict=True))
        before, after = self._gradients
        parameters = {
            name: ParameterRecord(
                before[name], after[name], weight, updates[name] / weight if weight else None
            )
            for name, weight in weights.items()
        }
        record = TelemetryRecord(
            step=step.step,
            epoch=step.epoch,
            loss=step.loss,
            gradient_norm=step.gradient_norm,
            clipped_norm=step.clipped_norm,
            clip_coefficient=coefficient(step.gradient_norm, step.clipped_norm),
            clip_method=trainer.gradient_clip_method if clips else None,
            clip_threshold=trainer.gradient_clip_val if clips else None,
            parameters=parameters,
            layers=self._layers,
            **optimizer_fields(trainer.optim),
        )
        self.write(record.as_dict())

    def _layer(self, traced: TracedLayer) -> LayerRecord:
        arrays = traced.hidden, traced.recurrent, traced.first, traced.after
        numbers = layer_numbers(self.backend.xp, traced.cell, *arrays)
        return layer_record([self.backend.to_numpy(numbers).tolist()], cell=traced.cell)

    def _norms(self, gradients: Mapping[str, Any]) -> dict[str, float]:
        values = self.backend.to_numpy(norms(self.backend.xp, tuple(gradients.values())))
        return dict(zip(gradients, values.tolist(), strict=True))

    def summary(self) -> dict[str, Any]:
        """What the norms say, before clipping where it is not said.

        Returns:
            Of W, U and b ``first``, ``peak``, ``peak_step`` and the ``median`` after step
            100, with ``clipped_median``, that of the norms after clipping; ``exploded``,
            whether the three together were `EXPLODED_NORM` times what they began with (the
            diagnosis of a run also asks how long the update was, which is not known here);
            ``dead_step``, from which on the gradient of the three together is dead (see
            ``DEAD``; None: it lives), and there ``saturated_when_dead``; ``silent_share``, of
            the steps from then on those below 1e-6, and ``bursts``, how many reach the border
            nevertheless; and ``saturated_last``.
        """
        found: dict[str, Any] = {}
        for name, line in self.before.items():
            peak = max(line)
            found[name] = {
                "first": line[0],
                "peak": peak,
                "peak_step": line.index(peak) + 1,
                "median": _settled(line),
                "clipped_median": _settled(self.after[name]),
            }
        dead = dead_from(self.recurrent)
        rest = self.recurrent[dead - 1 :] if dead else []
        return {
            **found,
            "exploded": max(self.recurrent) >= EXPLODED_NORM * self.recurrent[0],
            "dead_step": dead,
            "saturated_when_dead": self.saturated[dead - 1] if dead else None,
            "silent_share": sum(norm < SILENT for norm in rest) / len(rest) if rest else None,
            "bursts": sum(not norm < DEAD * self.recurrent[0] for norm in rest),
            "saturated_last": self.saturated[-1],
        }


def _settled(norms: list[float]) -> float | None:
    return statistics.median(norms[SETTLED:]) if norms[SETTLED:] else None


def dead_from(norms: list[float]) -> int | None:
    """The step, from 1, from which on a gradient is dead, see ``DEAD``; None if it lives.

    Example:
        >>> dead_from([50.0, 4000.0, 0.6] + [0.1] * 20), dead_from([50.0, 4000.0, 0.0])
        (4, None)
    """
    dead, alive = None, 0
    for step in range(len(norms), 0, -1):
        lives = not norms[step - 1] < DEAD * norms[0]
        alive += lives
        steps = len(norms) - step + 1
        if not lives and steps >= DEAD_STEPS and alive <= BURSTS * steps:
            dead = step
    return dead
