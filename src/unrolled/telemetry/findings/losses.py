"""Findings about losses: standing still, diverging, memorised."""

import math

import numpy as np

from unrolled.telemetry.columns import ENOUGH, Column, median, share_of_rest
from unrolled.telemetry.findings.advice import clip_advice, shorter_steps
from unrolled.telemetry.findings.finding import Finding, Findings, either
from unrolled.telemetry.history import History

PLATEAU = 0.01
"""Fall of the loss over the last half, in parts of the first loss, below which it stands."""

VARIES = 0.2
"""Spread of a loss that stands, in parts of it, from which on a few examples make all of it, as
where most are learned."""

FELL = 0.1
"""A loss that has fallen by this part of the first has learned something before it stood."""

LOST = 0.5
"""Part of what was gained that must be lost again to call it divergence."""

ROSE, FAR_UP = 0.5, 10.0
"""Rise above the first loss, in parts of it, that is divergence; and after a few steps already."""

BEYOND_NOISE = 5.0
"""Standard deviations of a minibatch's loss by which it must rise above the first, which may have
been lucky; half of it above the best, which is a median of several."""

MEMORISED, HELDOUT_ABOVE = 2.0, 2.0
"""A training perplexity below 2, with one more than twice as high on held-out data: memory,
not skill."""


def plateau(h: History) -> Findings:
    """A loss that stands still before it has fallen."""
    loss = h.loss
    values = loss.values
    if len(values) < 2 * ENOUGH or loss.learned or loss.fall >= FELL or diverged(h) is not None:
        return
    size = len(values) // 5
    early, third, last = (
        values[part]
        for part in (slice(size), slice(-5 * size // 2, -3 * size // 2), slice(-size, None))
    )
    falls = float(np.median(third) - np.median(last)) >= PLATEAU * loss.scale
    noise = math.sqrt((early.var() + last.var()) / size)
    slowly = len(values) >= 4 * ENOUGH and early.mean() - last.mean() > 4 * noise
    if falls or slowly:
        return
    moved = median(h.steps["update"])
    moves = f" The steps move the weights by {moved:.1e} of their norm." if moved > 0 else ""
    half = values[len(values) // 2 :]
    yield Finding(
        "plateau",
        "note" if half.std() > VARIES * abs(loss.last) else "warning",
        f"The loss stands at {loss.last:.3g}; it began at {loss.first:.3g}.{moves}",
        step=int(loss.steps[0]),
        numbers={"first": loss.first, "last": loss.last},
        remedy="train on one minibatch alone: if its loss does not fall either, look at targets "
        "and inputs; if it falls, raise the learning rate threefold, or give the model more "
        "capacity",
    )


def diverged(h: History) -> int | None:
    """The place among the losses from which on what was gained is lost for good; or None."""
    loss = h.loss
    values = loss.values
    if len(values) < 2:
        return None
    few = len(values) < ENOUGH
    lost, gained = loss.last - loss.best, loss.first - loss.best
    rose = loss.last > loss.first + (FAR_UP if few else ROSE) * loss.scale
    rose = rose and (few or _noises(values, loss.first, loss.last) > BEYOND_NOISE)
    fell_back = not few and lost > LOST * gained > 0.1 * loss.scale and lost > 0.2 * loss.scale
    fell_back = fell_back and _noises(values, loss.best, loss.last) > BEYOND_NOISE / 2
    if not (rose or (fell_back and _apart(values))):
        return None
    up = loss.best + 0.2 * lost
    above = (rose | (loss.steps >= loss.best_step)) & (
        values > (min(up, loss.first + ROSE * loss.scale) if rose else up)
    )
    rows = np.flatnonzero(above & (share_of_rest(above) >= 0.9))
    return int(rows[0]) if len(rows) else None


def _noises(values: Column, first: float, last: float) -> float:
    """How many standard deviations of a minibatch's loss lie between two losses.

    The deviation is that of successive losses, whose trend does not count, and of their
    logarithms, as a loss that explodes varies with its size: the median of ``|x - y|`` is 0.954
    standard deviations of normal numbers.
    """
    if values.min() > 0:
        values, first, last = np.log(values), math.log(first), math.log(last)
    noise = float(np.median(abs(np.diff(values)))) / 0.954
    return (last - first) / noise if noise > 0 else math.inf


def _apart(values: Column) -> bool:
    """Whether the last losses are above the best ones by more than they vary."""
    size = max(5, len(values) // 10)
    starts = range(len(values) - size + 1)
    best = min((values[i : i + size] for i in starts), key=np.median)
    return bool(np.quantile(values[-size:], 0.25) > np.quantile(best, 0.75))


def divergence(h: History) -> Findings:
    """A loss that loses again what it had gained, or rises from the start."""
    row = diverged(h)
    if row is None:
        return
    loss = h.loss
    step = int(loss.steps[row])
    clip = None if h.is_adaptive is True else clip_advice(h)
    advice = [shorter_steps(h, 10), "let it fall over time", clip]
    yield Finding(
        "divergence",
        "serious",
        f"From step {step:,} on the loss is up for good: it began at {loss.first:.3g}, was "
        f"{loss.best:.3g} at best, rose to {loss.values[row]:.3g} in that step, and is "
        f"{loss.last:.3g} at the end.",
        step=step,
        numbers={"first": loss.first, "lowest": loss.best, "last": loss.last},
        remedy=either(advice),
    )


def memorised(h: History) -> Findings:
    """Training data known by heart."""
    trained = _last_number(h, "perplexity")
    heldout = _last_number(h, "heldout_perplexity", "val_perplexity", "dev_perplexity")
    if trained is None or heldout is None or not is_memorized(trained, heldout):
        return
    yield Finding(
        "memorised",
        "warning",
        f"Perplexity {trained:.3g} on the data of training, {heldout:.3g} on data never seen: the "
        "training data is known by heart.",
        numbers={"perplexity": trained, "heldout_perplexity": heldout},
        remedy="train on more data, stop earlier, use a smaller model, dropout or weight decay",
    )


def is_memorized(trained: float, heldout: float) -> bool:
    """Whether two perplexities say that a text was memorised."""
    return trained < MEMORISED and heldout > HELDOUT_ABOVE * trained


def _last_number(h: History, *names: str) -> float | None:
    """The first of these measures that the summary or the last epoch has."""
    places = h.summary, h.epochs[-1] if h.epochs else {}
    values = (place.get(name) for name in names for place in places)
    return next((float(v) for v in values if isinstance(v, int | float)), None)
