"""Findings about gradients: not finite, exploded, vanished."""

import math

import numpy as np

from unrolled.functional.initial import is_bias
from unrolled.telemetry.findings.finding import (
    SERIOUS,
    WARNING,
    Finding,
    Findings,
    lasting,
    median,
    one_digit,
)
from unrolled.telemetry.history import ENOUGH, Column, History, Table

EXPLODED_NORM, EXPLODED_UPDATE = 10.0, 1.0
"""A gradient so many times longer than before, and a step as long as the weights themselves:
what they held before is gone. Either alone is harmless: norms of healthy trainings vary by
some factors, and small new weights move by their own length."""

EXPLODED_ALONE = 1000.0
"""A norm that grows by this much is no variation, whatever the step that an adaptive
optimizer makes of it."""

EXPLODED_THROUGH_TIME = 1000.0
"""Gradient at the first step beside the last. Where every step has a loss of its own it may
grow by the number of steps, some tens; beyond, the recurrence itself blows it up."""

VANISHED_THROUGH_TIME = 1e-4
"""Gradient at the first step beside the last. Below it the first steps' share of a weight's
gradient drowns in the noise of the minibatches."""

VANISHED_IN_DEPTH = 1e-5
"""A weight's share of the whole gradient: at usual rates it does not move in any number of
steps that one would wait for."""

DEAD = 1e-3
"""A layer's part of the whole gradient of the same step, below which it has stopped learning.
Another thing is a curve beside its own beginning: `unrolled.experiments.norms.DEAD`."""


def not_finite(h: History) -> Findings:
    """NaN or infinity, and which tensor was first."""
    remedy = (
        "try a tenth of the learning rate, or clip the gradient norm near its usual length; "
        "if an input was first, look at the data of that minibatch"
    )
    if h.first_not_finite is not None:
        step, name = h.first_not_finite
        text = f"In step {step:,} {name} was NaN or infinite, before anything else that was seen."
        yield Finding("NaN", SERIOUS, text, step, name, {}, remedy)
    elif h.summary.get("status") == "diverged":
        last = int(h.steps["step"][-1]) if h.steps.length else None
        text = "The run stopped because the loss or a gradient became NaN or infinite."
        yield Finding("NaN", SERIOUS, text, last, None, {}, remedy)


def exploded(h: History) -> Findings:
    """One step far longer than all before, or a gradient that grows on its way back."""
    norm, update, coefficient = (h.steps[name] for name in ("norm", "update", "coefficient"))
    known = np.flatnonzero(np.isfinite(norm) & (norm > 0))
    if len(known) >= 2:
        peak = known[np.argmax(norm[known])]
        before = norm[known[known < peak]]
        usual = max(float(np.median(before)), float(before[0])) if len(before) else math.inf
        times = float(norm[peak]) / usual
        moved = float(np.nan_to_num(update[peak]))
        tamed = coefficient[peak] < 1 and moved < EXPLODED_UPDATE
        if not tamed and (
            (times >= EXPLODED_NORM and moved >= EXPLODED_UPDATE) or times >= EXPLODED_ALONE
        ):
            step, name = int(h.steps["step"][peak]), of_largest(h.parameters, int(peak))
            yield Finding(
                "exploded",
                SERIOUS,
                f"In step {step:,} the gradient's norm was {norm[peak]:.3g}, {times:.3g} times "
                "what it was before"
                + (f", most of it in {name}" if name else "")
                + (f"; the update was {moved:.3g} times as long as the weights." if moved else "."),
                step,
                name,
                {"norm": float(norm[peak]), "usual_norm": usual, "update_ratio": moved},
                f"clip the global norm at about {one_digit(float(before[0]))}, or lower the "
                "learning rate to a tenth, or average the loss instead of summing it",
            )
    for name, layer in h.layers.items():
        growth = layer["first"] / np.where(layer["last"] > 0, layer["last"], np.nan)
        if median(growth) >= EXPLODED_THROUGH_TIME:
            yield Finding(
                "exploded",
                WARNING,
                f"Going back through the {median(layer['window']):.0f} time steps of {name} the "
                f"gradient grows {median(growth):.3g} times (by {median(layer['fall']):.3g} "
                "each step).",
                None,
                name,
                {"growth": median(growth), "per_step": median(layer["fall"])},
                "start from smaller or orthogonal recurrent weights, clip, or use an LSTM or GRU",
            )


def vanished(h: History) -> Findings:
    """Nothing left at the first time steps, or in the lowest layers."""
    for name, layer in h.layers.items():
        share = layer["first"] / np.where(layer["last"] > 0, layer["last"], np.nan)
        if median(share) <= VANISHED_THROUGH_TIME:
            reach, window = median(layer["reach"]), median(layer["window"])
            yield Finding(
                "vanished",
                WARNING,
                f"The gradient at the first time step of {name} is {median(share):.1g} times that "
                f"at the last; it falls below 1% {reach + 1:.0f} of {window:.0f} steps back. "
                "What happened earlier does not teach it.",
                None,
                name,
                {"share": median(share), "reach": reach, "window": window},
                "use an LSTM or GRU (forget bias 1 or more), orthogonal recurrent weights, or "
                "shorter sequences",
            )
    norm = h.steps["norm"]
    for name, parameter in h.parameters.items():
        gradient = parameter["gradient"]
        alive = np.isfinite(gradient) & (norm > 0)
        # a bias may have a gradient of 0 by construction: before a batch norm, in keys
        if alive.sum() < ENOUGH or is_bias(name) or died(gradient, norm):
            continue
        small = float(np.median(gradient[alive] / norm[alive]))
        if small <= VANISHED_IN_DEPTH:
            yield Finding(
                "vanished",
                WARNING,
                f"The gradient of {name} is {small:.1g} times the whole one: it hardly moves.",
                None,
                name,
                {"share": small},
                "use units that do not saturate (ReLU), residual connections, normalisation, or "
                "fewer layers; a weight that no output depends on can go",
            )


def died(gradient: Column, norm: Column) -> int | None:
    """The row from which on a parameter that learned gets no gradient any more."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = gradient / np.where(norm > 0, norm, np.nan)
    row = lasting(share <= VANISHED_IN_DEPTH, share)
    learned = row is not None and np.nanmax(share[:row], initial=0.0) > DEAD
    return row if learned else None


def of_largest(parameters: dict[str, Table], row: int) -> str | None:
    """The parameter with the largest gradient in a row."""
    norms = {
        name: float(np.nan_to_num(table["gradient"][row])) for name, table in parameters.items()
    }
    return max(norms, key=lambda name: norms[name], default=None)
