"""`Norms`: gradient norms of the SRN, step by step; when they explode and when they die."""

import math
import statistics
from typing import Any

import numpy as np

from unrolled.telemetry.findings.gradients import EXPLODED_NORM
from unrolled.telemetry.records import TelemetryRecord
from unrolled.training.records import Listener

WATCHED = {name: f"rnn_model.{name}" for name in ("W", "U", "b")}
"""The parameters of the recurrent layer, and what the model calls them."""

SILENT = 1e-6
"""A gradient norm below this moves nothing."""

DEAD, BURSTS, DEAD_STEPS = 0.01, 0.05, 20
"""A gradient is dead from a step on if its norm stays below ``DEAD`` times the first norm for at
least ``DEAD_STEPS`` steps. A share of ``BURSTS`` of these may exceed that: a minibatch in which one
unit is not saturated gives a burst, too little to bring the others back.

The diagnosis of any run compares a layer with the whole gradient of the same step
(`unrolled.telemetry.findings.gradients.DEAD`). Here, as in the published figures, one layer is
compared with its own start.
"""

SETTLED = 100
"""The median is that of the steps after this one."""


class Norms(Listener):
    """Gradient norms of W, U and b at every step, and the share of saturated units.

    Attributes:
        before, after: by ``"W"``, ``"U"``, ``"b"`` the norms at every step, before and after
            clipping.
        saturated: share of hidden units of the minibatch with ``|h| > 0.99``.
    """

    def __init__(self) -> None:
        self.before: dict[str, list[float]] = {name: [] for name in WATCHED}
        self.after: dict[str, list[float]] = {name: [] for name in WATCHED}
        self.saturated: list[float] = []

    def add(self, record: TelemetryRecord) -> None:
        """Add a step's record; not that of a step that a training has diverged in."""
        norms = {name: record.parameters[parameter] for name, parameter in WATCHED.items()}
        if record.clipped_norm is None or not math.isfinite(record.clipped_norm):
            return
        for name, of in norms.items():
            self.before[name].append(of.gradient_norm or 0.0)
            self.after[name].append(of.clipped_norm or 0.0)
        (layer,) = record.layers.values()
        self.saturated.append(layer.saturated or 0.0)

    def state_dict(self) -> dict[str, Any]:
        lines = {"before": self.before, "after": self.after}
        arrays = {kind: {n: np.array(x) for n, x in of.items()} for kind, of in lines.items()}
        return {**arrays, "saturated": np.array(self.saturated)}

    def load_state_dict(self, state: Any) -> None:
        self.before, self.after = (
            {name: line.tolist() for name, line in state[kind].items()}
            for kind in ("before", "after")
        )
        self.saturated = state["saturated"].tolist()

    def summary(self) -> dict[str, Any]:
        """What the norms say, before clipping where it is not said.

        Returns:
            Of W, U and b ``first``, ``peak``, ``peak_step`` and the ``median`` after step
            100, with ``clipped_median``, that of the norms after clipping; ``exploded``,
            whether the three together were `EXPLODED_NORM` times what they began with (the
            diagnosis of a run also asks how long the update was, which is not known here);
            ``dead_step``, from which on the gradient of the three together is dead (see
            ``DEAD``; None: it lives), and there ``saturated_when_dead``; ``silent_share``, of
            the steps from then on those below 1e-6, and ``bursts``, how many exceed the limit
            of ``DEAD``; and ``saturated_last``.
        """
        recurrent = [math.hypot(*norms) for norms in zip(*self.before.values(), strict=True)]
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
        dead = dead_from(recurrent)
        rest = recurrent[dead - 1 :] if dead else []
        return {
            **found,
            "exploded": max(recurrent) >= EXPLODED_NORM * recurrent[0],
            "dead_step": dead,
            "saturated_when_dead": self.saturated[dead - 1] if dead else None,
            "silent_share": sum(norm < SILENT for norm in rest) / len(rest) if rest else None,
            "bursts": sum(not norm < DEAD * recurrent[0] for norm in rest),
            "saturated_last": self.saturated[-1],
        }


def _settled(norms: list[float]) -> float | None:
    return statistics.median(norms[SETTLED:]) if norms[SETTLED:] else None


def dead_from(norms: list[float]) -> int | None:
    """The step, from 1, from which on a gradient is dead, see ``DEAD``; None if it lives."""
    dead, alive = None, 0
    for step in range(len(norms), 0, -1):
        lives = not norms[step - 1] < DEAD * norms[0]
        alive += lives
        steps = len(norms) - step + 1
        if not lives and steps >= DEAD_STEPS and alive <= BURSTS * steps:
            dead = step
    return dead
