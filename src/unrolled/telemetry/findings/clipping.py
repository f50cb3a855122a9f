"""Findings about clipping: too late, of a part, of scaled gradients, too hard, never needed."""

import numpy as np

from unrolled.telemetry.columns import ENOUGH, largest, median, ratio
from unrolled.telemetry.findings.finding import Finding, Findings, one_digit, percent, some
from unrolled.telemetry.history import History

CLIPPED_ALWAYS = 0.9
"""Share of clipped steps from which on the threshold sets the length of nearly every step."""

SMALL_STEP = 1e-3
"""Step beside the weights below which clipping is what keeps a training from moving."""

ABOVE, UNCLIPPED = 1.01, 3.0
"""Norm beside the threshold: above it, and so far above it after clipping that a part of the
parameters cannot have been clipped."""

BELONGS = "call clip_grad_norm_ between loss.backward() and optimizer.step()"


def clipping(h: History) -> Findings:
    """Clipping that does not do what it is there for."""
    known = np.isfinite(h.steps["coefficient"])
    if known.sum() < 5:
        return
    found = [*_without_effect(h), *_of_a_part(h), *_of_scaled(h)]
    yield from found
    if not found and known.sum() >= ENOUGH:
        yield from _too_hard_or_never(h)


def _without_effect(h: History) -> Findings:
    """A threshold below the norms, and yet nothing was clipped before the step."""
    norm, coefficient = h.steps["norm"], h.steps["coefficient"]
    threshold, late = h.steps["threshold"], h.steps["late"]
    known = np.isfinite(coefficient) & np.isfinite(norm)
    if known.sum() < 5:
        return
    unclipped = known & (coefficient >= 1 - 1e-4)
    above = unclipped & (norm > ABOVE * threshold)
    after = np.isfinite(late).sum() >= 0.5 * (len(late) - 1) > 0
    if above.sum() < 0.5 * known.sum() and not (after and unclipped.sum() > 0.9 * known.sum()):
        return
    numbers = {"median_norm": median(norm), "largest_norm": largest(norm)}
    if above.any():
        numbers["threshold"] = median(threshold)
        text = (
            f"Clipping at {numbers['threshold']:g} changed nothing: the norm was above that in "
            f"{percent(float((norm[known] > threshold[known]).mean()))} of the steps "
            f"(typically {median(norm):.3g}), and the optimizer got it unclipped."
        )
    else:
        text = (
            "Clipping changed nothing: gradients were made smaller only after the step, "
            f"typically to {percent(median(late))} of their norm."
        )
    where = (
        "it runs after optimizer.step(), when the weights have moved"
        if after
        else "it runs before backward(), after the step, or on other parameters"
    )
    remedy = f"{BELONGS}: {where}"
    yield Finding("clipping without effect", "warning", text, numbers=numbers, remedy=remedy)


def _of_a_part(h: History) -> Findings:
    """One factor for some parameters, none for the others, which have most of the gradient."""
    factors = {n: ratio(p["clipped"], p["gradient"]) for n, p in h.parameters.items()}
    factors = {n: f for n, f in factors.items() if np.isfinite(f).sum() >= 5}
    hard = {n: f for n, f in factors.items() if np.nanmean(f < 1 - 1e-4) >= 0.5}
    rest = [n for n, f in factors.items() if np.nanmin(f) >= 1 - 1e-4]
    if not hard or not rest or len(hard) + len(rest) < len(factors):
        return
    stacked = np.array(list(hard.values()))
    if median(np.nanmax(stacked, 0) / np.nanmin(stacked, 0)) > ABOVE:
        return  # each by itself, or values: what is not clipped is small
    norms = [
        np.sqrt(sum(np.nan_to_num(h.parameters[n]["clipped"]) ** 2 for n in names))
        for names in (list(hard), rest)
    ]
    at, left = median(norms[0]), median(norms[1])
    if left > UNCLIPPED * at:
        yield Finding(
            "clipping without effect",
            "warning",
            f"Clipping covers only {some(list(hard))}: these come to a norm of {at:.3g}, and "
            f"{some(rest)} keep {left:.3g}.",
            parameter=rest[0],
            numbers={"clipped": at, "unclipped": left},
            remedy="give clip_grad_norm_ all of model.parameters()",
        )


def _of_scaled(h: History) -> Findings:
    """Gradients that were below the threshold, and clipped all the same."""
    norm, coefficient, threshold = (h.steps[n] for n in ("norm", "coefficient", "threshold"))
    below = (coefficient < 0.5) & (norm < threshold / ABOVE)
    if below.sum() < 0.5 * np.isfinite(coefficient).sum() or not h.clip.by_norm:
        return
    yield Finding(
        "clipping without effect",
        "warning",
        f"The norm was typically {median(norm):.3g}, below the threshold of "
        f"{median(threshold):g}, and yet clipping left {percent(median(coefficient))} of it: it "
        "saw the gradients still multiplied, as a loss scaler does.",
        numbers={"median_norm": median(norm), "threshold": median(threshold)},
        remedy="call scaler.unscale_(optimizer) before clip_grad_norm_",
    )


def _too_hard_or_never(h: History) -> Findings:
    clip, loss, norm = h.clip, h.loss, h.steps["norm"]
    numbers = {
        "share": clip.share,
        "median_norm": median(norm),
        "largest_norm": largest(norm),
        "update_ratio": median(h.steps["update"]),
    }
    # an adaptive optimizer divides by the gradient's size: clipping all alike changes nothing
    binds = clip.share >= CLIPPED_ALWAYS and h.is_adaptive is not True and not loss.learns
    if binds and len(loss.values) and numbers["update_ratio"] < SMALL_STEP:
        which = "Every step was" if clip.share == 1 else f"{percent(clip.share)} of the steps were"
        yield Finding(
            "clipped nearly always",
            "warning",
            f"{which} clipped, typically to {percent(clip.kept)} of its norm, and moved the "
            f"weights by {percent(numbers['update_ratio'])}. The threshold, not the gradient, "
            "sets the step size.",
            numbers=numbers,
            remedy=f"raise the threshold to about {one_digit(median(norm))} (the median norm)",
        )
    elif clip.share == 0 and clip.told and clip.threshold is not None:
        yield Finding(
            "never clipped",
            "note",
            f"Clipping at {clip.threshold:g} never acted: the largest norm was "
            f"{numbers['largest_norm']:.3g}.",
            numbers={**numbers, "threshold": clip.threshold},
            remedy="nothing; it may stay as a safety net",
        )
