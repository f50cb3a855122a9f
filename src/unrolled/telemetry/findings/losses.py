"""Findings about losses and clipping."""

import numpy as np

from unrolled.telemetry.findings.finding import (
    NOTE,
    SERIOUS,
    WARNING,
    Finding,
    Findings,
    largest,
    median,
    one_digit,
)
from unrolled.telemetry.history import ENOUGH, History

CLIPPED_ALWAYS = 0.9
"""Share of clipped steps from which on the threshold sets the length of nearly every step."""

PLATEAU = 0.01
"""Fall of the loss over the last half, in parts of the first loss, below which it stands."""

LEARNED = 0.5
"""A loss that has come below this part of the first may stand still because it is done."""

LOST = 0.5
"""Part of what was gained that must be lost again to call it divergence."""

FAR_UP = 10.0
"""Times the first loss that one must be to be called divergence after a few steps already."""

MEMORISED, HELDOUT_ABOVE = 2.0, 2.0
"""A training perplexity below 2, with one more than twice as high on held-out data: memory,
not skill."""


def clipping(h: History) -> Findings:
    """A threshold that always bites, or never."""
    coefficient, threshold, norm = (h.steps[name] for name in ("coefficient", "threshold", "norm"))
    known = np.isfinite(coefficient)
    if known.sum() < ENOUGH:
        return
    share = float((coefficient[known] < 1 - 1e-4).mean())
    numbers = {"share": share, "median_norm": median(norm), "largest_norm": float(largest(norm))}
    if share >= CLIPPED_ALWAYS:
        yield Finding(
            "clipped nearly always",
            WARNING,
            f"{share:.0%} of the steps were clipped, at the median to "
            f"{median(coefficient):.2g} of their length: every step is about equally long, "
            "and a minibatch that matters little counts as much as one that matters.",
            None,
            None,
            numbers,
            f"raise the threshold to about {one_digit(2 * numbers['median_norm'])} (the median "
            f"norm is {numbers['median_norm']:.2g}) and lower the learning rate as much",
        )
    elif share == 0 and np.isfinite(threshold).any():
        yield Finding(
            "never clipped",
            NOTE,
            f"Clipping at {median(threshold):g} never acted: the largest norm was "
            f"{numbers['largest_norm']:.3g}.",
            None,
            None,
            {**numbers, "threshold": median(threshold)},
            "leave it as a safety net, or take it out; a threshold of some times the median norm, "
            f"{one_digit(5 * numbers['median_norm'])}, would catch outliers",
        )


def plateau(h: History) -> Findings:
    """A loss that stands still before it has fallen."""
    steps, loss = h.losses()
    if len(loss) < 2 * ENOUGH:
        return
    tenth = len(loss) // 10
    first, third, last = (
        float(np.median(part))
        for part in (loss[:tenth], loss[-5 * tenth : -3 * tenth], loss[-2 * tenth :])
    )
    rose = last > first * 1.1
    if first > 0 and last > LEARNED * first and not rose and third - last < PLATEAU * first:
        row = len(loss) - 5 * tenth
        yield Finding(
            "plateau",
            WARNING,
            f"Since step {steps[row]:.0f} the loss stands at {last:.3g}; it began at {first:.3g}.",
            int(steps[row]),
            None,
            {"first": first, "last": last},
            "change the learning rate (a tenth, or three times as much), look whether gradients "
            "vanish or units are saturated, or give the model more capacity",
        )


def divergence(h: History) -> Findings:
    """A loss that loses again what it had gained, or rises from the start."""
    steps, loss = h.losses()
    if len(loss) < 2:
        return
    few = len(loss) < ENOUGH
    size = 1 if few else max(3, len(loss) // 20)
    smooth = np.array([np.median(loss[i : i + size]) for i in range(len(loss) - size + 1)])
    first, lowest, last = float(loss[0]), float(smooth.min()), float(smooth[-1])
    scale = abs(first) or 1.0
    lost = last - min(lowest, first)
    gained = max(first - lowest, 0.0)
    # above the start, or much of what was won is lost and it is no noise
    rose = last > first + (FAR_UP if few else 0.5) * scale
    fell_back = not few and lost > LOST * gained > 0.1 * scale and lost > 0.2 * scale
    if rose or fell_back:
        row = int(np.argmin(smooth))
        yield Finding(
            "divergence",
            SERIOUS,
            f"The loss began at {first:.3g}, was lowest near step {steps[row]:.0f} "
            f"({min(lowest, first):.3g}) and is {last:.3g} at the end.",
            int(steps[row]),
            None,
            {"first": first, "lowest": min(lowest, first), "last": last},
            "lower the learning rate to a third or a tenth, or let it fall over time; clip",
        )


def memorised(h: History) -> Findings:
    """Training data known by heart."""
    trained, heldout = _perplexities(h)
    if trained is None or heldout is None or not knows_by_heart(trained, heldout):
        return
    yield Finding(
        "memorised",
        WARNING,
        f"Perplexity {trained:.3g} on the data of training, {heldout:.3g} on data never seen: the "
        "training data is known by heart.",
        None,
        None,
        {"perplexity": trained, "heldout_perplexity": heldout},
        "train on more data, stop earlier, use a smaller model, dropout or weight decay",
    )


def knows_by_heart(trained: float, heldout: float) -> bool:
    """Whether two perplexities say that a text was memorised.

    Example:
        >>> knows_by_heart(1.04, 21.3), knows_by_heart(6.5, 7.9)
        (True, False)
    """
    return trained < MEMORISED and heldout > HELDOUT_ABOVE * trained


def _perplexities(h: History) -> tuple[float | None, float | None]:
    last = h.epochs[-1] if h.epochs else {}
    found = []
    for names in (("perplexity",), ("heldout_perplexity", "val_perplexity", "dev_perplexity")):
        values = (place.get(name) for name in names for place in (h.summary, last))
        found.append(next((float(v) for v in values if isinstance(v, int | float)), None))
    return found[0], found[1]
