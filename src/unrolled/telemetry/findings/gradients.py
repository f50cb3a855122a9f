"""Findings about gradients: not finite, exploded, vanished."""

import math

import numpy as np

from unrolled.functional.initial import is_bias
from unrolled.telemetry.columns import ENOUGH, Column, lasting, median, ratio
from unrolled.telemetry.findings.advice import LARGE_UPDATE, clip_advice, shorter_steps
from unrolled.telemetry.findings.finding import Finding, Findings, Severity, either, some
from unrolled.telemetry.history import History

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

BEYOND = 1e6
"""As `EXPLODED_THROUGH_TIME`, while the loss falls: some growth is no trouble then."""

BEFORE = 20
"""Steps before one that tell what its gradient's norm usually is."""

VANISHED_THROUGH_TIME = 1e-4
"""Gradient at the first step beside the last. Below it the first steps' share of a weight's
gradient drowns in the noise of the minibatches."""

VANISHED_IN_DEPTH = 1e-5
"""A weight's share of the whole gradient: at usual rates it does not move in any number of
steps that one would wait for."""

MOVES = 1e-6
"""Step beside the weights from which on a weight moves, however small its gradient is: an
adaptive optimizer makes up for that."""

DEAD = 1e-3
"""A layer's part of the whole gradient of the same step, below which it has stopped learning.
`unrolled.experiments.norms.DEAD` compares a curve with its own beginning instead."""

STEPS_NAMED = 8
"""Steps that a text names: a line of them."""

SMALLER_WEIGHTS = {
    "rnn": "start from smaller recurrent weights (orthogonal, or a spectral radius of at most 1)",
    "rnn_relu": "start the recurrent weights at the identity, or smaller",
    "gru": "start from smaller weights",
    "lstm": "start from smaller weights",
}
"""By cell, what keeps a gradient from growing through time."""

FARTHER_BACK = {
    "rnn": "use a GRU or an LSTM, or orthogonal recurrent weights",
    "rnn_relu": "start the recurrent weights at the identity, or use a GRU or an LSTM",
    "gru": "give the update gate a bias of 1 to 3, so that the units keep their state for longer",
    "lstm": "give the forget gate a bias of 1 to 3, so that the cells keep their state for longer",
}
"""By cell, what lets a gradient come farther back through time."""


def not_finite(h: History) -> Findings:
    """NaN or infinity, and which tensor was first."""
    in_epochs = [n for n in (line.get("not_finite") for line in h.epochs) if isinstance(n, int)]
    if h.first_not_finite is not None:
        step, name = h.first_not_finite
        text = f"In step {step:,} {name} was NaN or infinite, before anything else that was seen."
        went_on = bool(h.recovered) and not h.stopped
        for what, steps in h.recovered.items():
            text += f" {what.capitalize()} {_times(len(steps))}: {_steps(steps)}."
        text += " Then the training stopped." if h.recovered and h.stopped else ""
        yield Finding(
            "NaN",
            "warning" if went_on else "serious",
            text,
            step=step,
            parameter=name,
            numbers={"steps": float(sum(map(len, h.recovered.values())) + h.stopped)},
            remedy=_against_nan(h, name),
        )
    elif in_epochs and h.summary.get("status") != "diverged":
        count, epochs = sum(in_epochs), len(in_epochs)
        yield Finding(
            "NaN",
            "warning",
            f"{count:,} step{'s' * (count > 1)} in {epochs:,} epoch{'s' * (epochs > 1)} had a loss "
            "or gradient that was NaN or infinite. The training went on without them.",
            numbers={"steps": float(count)},
            remedy="record telemetry: it names these steps, and the tensor that was first",
        )
    elif h.summary.get("status") == "diverged":
        last = int(h.steps["step"][-1]) if h.steps.length else None
        text = "The run stopped because the loss or a gradient became NaN or infinite."
        yield Finding("NaN", "serious", text, step=last, remedy=shorter_steps(h, 10))


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _steps(steps: list[int]) -> str:
    """The steps of a finding, the first of many."""
    shown = ", ".join(f"{step:,}" for step in steps[:STEPS_NAMED])
    more = len(steps) - STEPS_NAMED
    return f"step{'s' * (len(steps) > 1)} {shown}{f' and {more:,} more' if more > 0 else ''}"


def _against_nan(h: History, name: str) -> str:
    """What to do, by the kind of tensor that was first."""
    if name.startswith(("input ", "an input ", "part ")):
        return (
            "look at the data of that minibatch: drop or fill what is missing there, before it "
            "reaches the model"
        )
    if name.startswith("the weight "):
        return (
            "look at the step before, which wrote it: " + shorter_steps(h, 10)
            if h.steps.length > 1
            else "start from finite weights: they came so"
        )
    if name.startswith("the output "):
        return (
            f"look into {name.removeprefix('the output of ')}: what it was given was finite. Keep "
            "arguments of log, sqrt and divisions above 0 (clamp them, or add 1e-8), and those of "
            "exp small"
        )
    if name in ("the loss", "loss"):
        return (
            "look at how the loss is computed from finite outputs: take log_softmax or "
            "cross_entropy of the logits instead of log(softmax), keep arguments of log and "
            "divisions above 0 and those of exp small, and look at the targets of that minibatch"
        )
    return (
        "look at what is differentiated there: the loss was finite, but sqrt, norm, log and "
        "divisions have no finite gradient at 0. Add 1e-8 to their arguments, or clamp them"
    )


def exploded(h: History) -> Findings:
    """A gradient that is suddenly many times longer, or grows going back through time."""
    norm, update = h.steps["norm"], h.steps["update"]
    found = None if h.loss.learned else _first_explosion(h)
    if found is not None:
        row, usual = found
        step = int(h.steps["step"][row])
        gradients = {n: np.nan_to_num(p["gradient"][row]) for n, p in h.parameters.items()}
        name = max(gradients, key=lambda name: gradients[name], default=None)
        moved, weights = float(np.nan_to_num(update[row])), float(h.steps["weights"][row])
        before = "that of all weights" if usual is None else "what it was before"
        times = float(norm[row]) / (weights if usual is None else usual)
        layer = _growing(h, row)
        grew = f"; it grew {layer[1]:.3g} times on its way back through {layer[0]}" if layer else ""
        text = f"In step {step:,} the gradient's norm was {norm[row]:.3g}, "
        text += f"{times:.3g} times {before}{grew}."
        if moved >= EXPLODED_UPDATE / 10:
            text += f" The update was {moved:.3g} times as long as the weights."
        numbers = {"norm": float(norm[row]), "usual_norm": usual or weights, "update_ratio": moved}
        advice = [clip_advice(h, usual)]
        if layer:
            advice.append(SMALLER_WEIGHTS[h.cells.get(layer[0], "rnn")])
        if h.is_adaptive is not True and moved >= EXPLODED_UPDATE / 10:
            advice.append(shorter_steps(h, min(moved / LARGE_UPDATE, 1e3)))
        yield Finding("exploded", "serious", text, step, name, numbers, either(advice))
    else:
        yield from _exploded_through_time(h, BEYOND if h.loss.learns else EXPLODED_THROUGH_TIME)


def _exploded_through_time(h: History, least: float) -> Findings:
    """A gradient that grows on its way back, though no step was a jump."""
    clip = h.clip
    for name, layer in h.layers.items():
        growth = ratio(layer["first"], layer["last"])
        grown = max(median(growth[:3]), median(growth))
        if not grown >= least:
            continue
        window = median(layer["window"])
        fall = grown ** (1 / max(window - 1, 1))
        text = (
            f"Going back through the {window:.0f} time steps of {name} the gradient grows "
            f"{grown:.3g} times, {fall:.3g} times with every step: the first time steps drown all "
            "others."
        )
        if clip.share >= 0.5:
            text += " Clipping shortens all of it alike, and changes nothing in that."
        advice: list[str | None] = [SMALLER_WEIGHTS[h.cells.get(name, "rnn")]]
        if clip.share < 0.5 and h.is_adaptive is not True:
            advice.append(clip_advice(h))
        advice.append("go back through fewer time steps")
        yield Finding(
            "exploded",
            "warning",
            text,
            step=int(h.steps["step"][0]) if grown == median(growth[:3]) else None,
            parameter=name,
            numbers={"growth": grown, "per_step": fall},
            remedy=either(advice),
        )


def _first_explosion(h: History) -> tuple[int, float | None] | None:
    """The row of the first explosion, and the norm that was usual before; None in the first."""
    norm, update, coefficient = (h.steps[name] for name in ("norm", "update", "coefficient"))
    weights = h.steps["weights"]
    for row in np.flatnonzero(np.isfinite(norm) & (norm > 0)):
        moved = float(np.nan_to_num(update[row]))
        tamed = coefficient[row] < 1 and moved < EXPLODED_UPDATE
        before = norm[max(0, row - BEFORE) : row]
        before = before[np.isfinite(before) & (before > 0)]
        if len(before):
            usual = float(np.median(before))
            times = norm[row] / usual
            if not tamed and (
                times >= EXPLODED_ALONE or (times >= EXPLODED_NORM and moved >= EXPLODED_UPDATE)
            ):
                return int(row), usual
        if moved >= EXPLODED_UPDATE and norm[row] > weights[row] and _growing(h, int(row)):
            return int(row), None
    return None


def _growing(h: History, row: int) -> tuple[str, float] | None:
    """The layer through which the gradient of a step grew most, and how many times."""
    growth = {n: float(ratio(t["first"], t["last"])[row]) for n, t in h.layers.items()}
    grown = {n: g for n, g in growth.items() if g >= EXPLODED_THROUGH_TIME and math.isfinite(g)}
    name = max(grown, key=lambda name: grown[name], default=None)
    return None if name is None else (name, grown[name])


def vanished(h: History) -> Findings:
    """Nothing left at the first time steps, or in the lowest layers."""
    loss = h.loss
    if loss.learned:
        return
    severity: Severity = "note" if loss.learns else "warning"
    for name, layer in h.layers.items():
        share = ratio(layer["first"], layer["last"])
        window, reach = median(layer["window"]), median(layer["horizon_steps"])
        if not median(share) <= VANISHED_THROUGH_TIME or window < 3:
            continue
        back = f"{reach + 1:.0f} time step{'s' if reach else ''} back"
        yield Finding(
            "vanished",
            severity,
            f"The gradient in {name} vanishes: {back} it is already below 1% of its last value. "
            f"Of the {window:.0f} steps of a sequence only the last {reach + 1:.0f} train the "
            "network.",
            parameter=name,
            numbers={"share": median(share), "horizon_steps": reach, "window": window},
            remedy=f"{FARTHER_BACK[h.cells.get(name, 'rnn')]}; or use shorter sequences",
        )
    small = _small_in_depth(h)
    if small:
        most = max(small.values())
        yield Finding(
            "vanished",
            severity,
            f"The gradient of {some(list(small))} is at most {most:.1g} times the whole one, and "
            "hardly moves it.",
            parameter=next(iter(small)),
            numbers={"share": most},
            remedy="use units that do not saturate (ReLU), residual connections, normalisation, or "
            "fewer layers below the loss",
        )


def _small_in_depth(h: History) -> dict[str, float]:
    """Weights that have a gradient which is too small to move them, and its share of the whole."""
    norm, small = h.steps["norm"], {}
    for name, parameter in h.parameters.items():
        gradient = parameter["gradient"]
        alive = np.isfinite(gradient) & (norm > 0) & np.isfinite(norm)
        # a bias may have a gradient of 0 by construction: before a batch norm, in keys
        if alive.sum() < ENOUGH or is_bias(name) or died(gradient, norm) is not None:
            continue
        share = float(np.median(gradient[alive] / norm[alive]))
        if 0 < share <= VANISHED_IN_DEPTH and not median(parameter["update"]) >= MOVES:
            small[name] = share
    return small


def died(gradient: Column, norm: Column) -> int | None:
    """The row from which on a parameter that learned gets no gradient any more."""
    share = ratio(gradient, norm)
    row = lasting(share <= VANISHED_IN_DEPTH, share)
    learned = row is not None and np.nanmax(share[:row], initial=0.0) > DEAD
    return row if learned else None
