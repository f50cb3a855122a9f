"""Findings about optimizer steps: too small, too large, gradients not cleared, weight decay."""

import numpy as np

from unrolled.functional.initial import is_bias
from unrolled.telemetry.columns import ENOUGH, largest, median
from unrolled.telemetry.findings.advice import LARGE_UPDATE, shorter_steps
from unrolled.telemetry.findings.finding import Finding, Findings, Severity, one_digit, percent
from unrolled.telemetry.findings.units import saturated
from unrolled.telemetry.history import History

USUAL_UPDATE = 1e-3
"""Step beside the weights that is usual."""

SMALL_UPDATE, TINY_UPDATE = 1e-4, 1e-5
"""Steps beside the weights that are small where the loss stands; and that are too small whatever
is known of it."""

STANDS, ROSE = 0.05, 0.5
"""Fall of the loss, in parts of the first, below which it stands; and a rise that is
no chance."""

LARGE_AT_ONCE, LARGE_LASTING, LARGE_UNKNOWN = 0.5, 0.1, 0.3
"""Steps beside the weights that are too large where the training does not learn: one
of them, the median; and the median where nothing is known of the loss."""

EARLY = 10
"""Steps that must be known where nothing is known of the loss."""

DECAYED = 0.01
"""Learning rate beside its largest, below which a schedule has ended the training."""

JUMP = 3.0
"""Learning rate beside what it was before, from which on it has jumped."""

SHRUNK = 0.3
"""Norm of the weights at the end, in parts of the first, below which they have shrunk."""

LARGE_GRADIENT = 10.0
"""Norm of the gradient beside that of the weights from which on the gradient, and not the learning
rate, makes a step too large."""


def step_size(h: History) -> Findings:
    """Steps that are too large, or too small, for the weights."""
    yield from too_large(h)
    yield from too_small(h)


def too_small(h: History) -> Findings:
    """Steps that cannot have moved the weights to anywhere."""
    loss = h.loss
    if loss.learns or np.isfinite(h.steps["norm"]).sum() < ENOUGH:
        return
    if len(loss.values) and (early := _decayed(h)) is not None:
        yield early
        return
    weights = [
        p["update"]
        for name, p in h.parameters.items()
        if not is_bias(name) and (p["gradient"] > 0).any()
    ]
    # what nine tenths of the steps stay below: of a warm-up the end, not the beginning
    moves = [np.nanquantile(ratios, 0.9) for ratios in weights if np.isfinite(ratios).any()]
    if not moves or not largest(h.steps["norm"]) > 0:
        return
    most = float(max(moves))
    stands = len(loss.values) > 0 and -ROSE < loss.fall < STANDS
    rate = largest(h.steps["rate"])
    # where gradients themselves are small, the learning rate is not to blame
    slow = stands and (h.is_adaptive is True or rate < LARGE_UPDATE)
    if not most < (SMALL_UPDATE if slow else TINY_UPDATE) or _is_flat(h):
        return
    text = "No step moved the weights, though there were gradients."
    if most > 0:
        text = f"A step moves the weights by at most {most:.1g} of their norm; "
        text += f"about {USUAL_UPDATE:g} is usual."
    if stands:
        text += f" The loss stands at {loss.last:.3g}."
    yield Finding(
        "step too small",
        "serious" if most == 0 else "warning",
        text,
        step=int(h.steps["step"][0]),
        numbers={"update_ratio": most},
        remedy=_longer_steps(h, USUAL_UPDATE / most if most else np.inf),
    )


def _decayed(h: History) -> Finding | None:
    """A schedule that ends the training before the loss has fallen."""
    rates = h.steps["rate"]
    low = rates < DECAYED * largest(rates)
    row = int(np.argmax(low))
    if not low.any() or not low[row:].all() or row > len(rates) // 2:
        return None
    step = int(h.steps["step"][row])
    return Finding(
        "step too small",
        "warning",
        f"From step {step:,} on the learning rate is below {percent(DECAYED)} of its largest, "
        f"{largest(rates):.3g}. The loss has hardly fallen by then.",
        step=step,
        numbers={"largest": largest(rates), "last": float(rates[-1])},
        remedy="let the schedule fall more slowly, over the whole training",
    )


def _is_flat(h: History) -> bool:
    """Whether steps are small because the gradient is, as at the end of a training."""
    if h.is_adaptive is True:
        return False
    rate, beside = largest(h.steps["rate"]), median(h.steps["norm"] / h.steps["weights"])
    return bool(rate >= LARGE_UPDATE and beside < SMALL_UPDATE)


def _longer_steps(h: History, times: float) -> str:
    rate, clip = largest(h.steps["rate"]), h.clip
    advice = "raise the learning rate"
    if rate == 0:
        return f"{advice}, which is 0"
    if np.isfinite(rate) and np.isfinite(times):
        advice += f" from {rate:.3g} to about {one_digit(rate * min(times, 1e6))}"
    elif np.isfinite(times):
        advice += f" about {one_digit(times)} times"
    if clip.share >= 0.5 and h.is_adaptive is not True:
        advice += f", or the clipping threshold: {percent(clip.kept)} of the gradient is left"
    return advice


def too_large(h: History) -> Findings:
    """Steps that throw away what the weights held."""
    loss, update = h.loss, h.steps["update"]
    known = np.flatnonzero(np.isfinite(update))
    since = known[~(h.steps["step"][known] < loss.best_step)]
    if largest(update[since]) >= LARGE_AT_ONCE:  # what came before the loss was best did no harm
        known = since
    if loss.learns:  # a little, maybe, and with units that a large step has made switches
        switches = max((f.step or 0 for f in saturated(h)), default=0)
        known = known[h.steps["step"][known] <= switches]
        if not largest(update[known]) >= LARGE_AT_ONCE:
            return
    if len(known) < 2:
        return
    unsure = not len(loss.values)
    usual = median(update[known])
    if unsure:
        if len(known) < EARLY or not usual >= LARGE_UNKNOWN:
            return
    elif not (largest(update[known]) >= LARGE_AT_ONCE or usual >= LARGE_LASTING):
        return
    large = min(usual, LARGE_AT_ONCE) if usual >= LARGE_LASTING else LARGE_AT_ONCE
    row = int(known[np.flatnonzero(update[known] >= large)[0]])
    step, moved = int(h.steps["step"][row]), float(update[row])
    times = max(moved, usual) / LARGE_UPDATE
    beside = float(h.steps["norm"][row] / h.steps["weights"][row])
    text = f"In step {step:,} the update was {moved:.2g} times as long as the weights; "
    text += f"about {USUAL_UPDATE:g} is usual."
    rates = h.steps["rate"]
    if row and rates[row] > JUMP * median(rates[:row]):
        text += f" The learning rate had gone from {median(rates[:row]):g} to {rates[row]:g}."
    advice, clip = shorter_steps(h, times), h.clip
    if h.is_adaptive is False and clip.by_norm and clip.share >= 0.5 and clip.threshold:
        lower = one_digit(clip.threshold / times)
        advice += f", or the clipping threshold from {clip.threshold:.3g} to about {lower}"
    if h.is_adaptive is not True and beside >= LARGE_GRADIENT:
        text += f" The gradient itself was {beside:.2g} times as long."
        advice += "; if the loss is a sum over the minibatch take its mean, and scale the inputs"
    severity: Severity = "serious" if loss.fall < 0 else "warning"
    numbers = {"update_ratio": moved, "usual_ratio": usual, "gradient_ratio": beside}
    yield Finding("step too large", severity, text, step, numbers=numbers, remedy=advice)


def not_cleared(h: History) -> Findings:
    """Gradients that are added to those of the steps before."""
    uncleared, norm = h.steps["uncleared"][1:], h.steps["norm"]
    if len(uncleared) < 4 or uncleared.mean() < 0.9:
        return
    first, last = median(norm[:3]), median(norm[-max(3, len(norm) // 10) :])
    yield Finding(
        "gradients not cleared",
        "warning" if h.loss.learns else "serious",
        f"In {percent(float(uncleared.mean()))} of the steps the gradient was added to that of the "
        f"step before: every step uses the sum of all minibatches so far. Its norm went from "
        f"{first:.3g} to {last:.3g}.",
        step=int(h.steps["step"][1]),
        numbers={"share": float(uncleared.mean()), "first_norm": first, "last_norm": last},
        remedy="call optimizer.zero_grad() in every step, before loss.backward()",
    )


def decay(h: History) -> Findings:
    """Weights that shrink to nothing, as the decay pulls harder than the gradient."""
    loss, weights, value = h.loss, h.steps["weights"], median(h.steps["decay"])
    if loss.learns or h.steps.length < ENOUGH or not value > 0:
        return
    first, last = median(weights[:3]), median(weights[-3:])
    if not last <= SHRUNK * first or loss.fall < -STANDS:
        return
    gradient = float(h.steps["norm"][0])
    pull = f"The weight decay is {value:g}."
    if gradient > 0:
        pull = f"A weight decay of {value:g} pulled {value * float(weights[0]) / gradient:.2g} "
        pull += "times as hard as the gradient."
    yield Finding(
        "weight decay too strong",
        "warning",
        f"The weights shrink: their norm went from {first:.3g} to {last:.3g}. {pull}",
        step=int(h.steps["step"][0]),
        numbers={"first": first, "last": last, "weight_decay": value},
        remedy=f"lower the weight decay from {value:g} to 0.01 or less",
    )
