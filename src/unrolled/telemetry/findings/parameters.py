"""Findings about parameters that do not learn: without a gradient, or without an optimizer."""

import numpy as np

from unrolled.functional.initial import is_bias
from unrolled.telemetry.columns import median, ratio
from unrolled.telemetry.findings.finding import Finding, Findings, some
from unrolled.telemetry.findings.gradients import VANISHED_IN_DEPTH
from unrolled.telemetry.history import History

REASONS = {
    "unused": (
        "not used",
        ": no forward pass with gradients runs the module.",
        "call it in forward, outside of torch.no_grad(), or take it out of the model",
    ),
    "cut off": (
        "no gradient",
        ": what is computed with it does not reach the loss.",
        "look for detach(), .data, torch.no_grad(), argmax or .item() between it and the loss, and "
        "whether its output is used at all",
    ),
    "read once": (
        "zero gradient",
        " other than 0: the loss reads the reverse direction only where it has seen one step.",
        "read its output at the first time step, or its last state, h_n; or leave bidirectional "
        "out",
    ),
    "one step": (
        "zero gradient",
        " other than 0: sequences have one time step, and begin with a state of zeros.",
        "read the sequences in one call, or carry the state on; look whether time is the first "
        "axis, or batch_first=True the second",
    ),
    "zero inputs": (
        "zero gradient",
        " other than 0, though the recurrent weights did: what it reads is 0 in every step.",
        "look at the inputs, and at what is done to them before the layer",
    ),
    "zero": (
        "zero gradient",
        " other than 0: the units behind it are switched off (ReLU), saturated, or masked.",
        "start from smaller weights and biases near 0, use leaky units, or look at what its output "
        "is multiplied by",
    ),
}
"""By the likely reason: the finding, the reason in words, and what to do."""

FEW = 3
"""Steps from which on something that never happened is a finding."""


def no_gradient(h: History) -> Findings:
    """Parameters that no backward pass has reached, or only with zeros."""
    if h.steps.length < FEW or not (h.steps["norm"] > 0).any():
        return
    by_reason: dict[str, list[str]] = {}
    for name, parameter in h.parameters.items():
        gradient = parameter["gradient"]
        if not np.isfinite(gradient).any() and not np.isinf(gradient).any():
            if h.first_not_finite is None or np.isnan(gradient[: h.steps.length - 1]).all():
                unused = parameter["unused"].mean() > 0.5
                by_reason.setdefault("unused" if unused else "cut off", []).append(name)
        elif not is_bias(name) and (np.nan_to_num(gradient, nan=0.0) == 0).all():
            read_once = name.endswith("_reverse") and _others_learn(h, [name], "_hh_", "_ih_")
            by_reason.setdefault("read once" if read_once else "zero", []).append(name)
    for reason, names in by_reason.items():
        if reason == "zero" and any((layer["window"] == 1).all() for layer in h.layers.values()):
            reason = "one step"
        elif reason == "zero" and _others_learn(h, names, "_ih_", "_hh_"):
            reason = "zero inputs"
        finding, says, advice = REASONS[reason]
        yield Finding(
            finding,
            "note" if reason == "read once" else "warning",
            f"In none of {h.steps.length:,} steps {some(names)} got a gradient{says}",
            parameter=names[0],
            numbers={"steps": float(h.steps.length), "parameters": float(len(names))},
            remedy=advice,
        )


def _others_learn(h: History, names: list[str], one: str, other: str) -> bool:
    """Whether the other matrix of one of these layers has had gradients."""
    rest = {name.replace(one, other) for name in names if one in name}
    return any((h.parameters[name]["gradient"] > 0).any() for name in rest & h.parameters.keys())


def not_optimized(h: History) -> Findings:
    """Parameters that have gradients, and that no optimizer holds or moves."""
    if h.steps.length < FEW or not (h.steps["moved"] > 0).any() or h.alternates:
        return
    left_out: list[str] = []
    unmoved: list[str] = []
    for name, parameter in h.parameters.items():
        known = np.isfinite(parameter["gradient"])
        if known.sum() < FEW or not (parameter["gradient"][known] > 0).any():
            continue
        if np.isnan(parameter["clipped"]).all() and np.isnan(parameter["update"]).all():
            left_out.append(name)
        elif np.isfinite(parameter["update"]).any() and not (parameter["update"] > 0).any():
            share = median(ratio(parameter["gradient"], h.steps["norm"]))
            unmoved += [name] if share > VANISHED_IN_DEPTH else []
    if left_out:
        yield Finding(
            "not in the optimizer",
            "warning",
            f"{some(left_out)} got a gradient in every step, and no optimizer moved "
            f"{'it' if len(left_out) == 1 else 'them'}.",
            parameter=left_out[0],
            numbers={"parameters": float(len(left_out))},
            remedy="give the optimizer all of model.parameters(); what shall stay as it is needs "
            "requires_grad_(False)",
        )
    if unmoved:
        yield Finding(
            "not moved",
            "warning",
            f"{some(unmoved)} got gradients, and the optimizer moved "
            f"{'it' if len(unmoved) == 1 else 'them'} in no step.",
            parameter=unmoved[0],
            numbers={"parameters": float(len(unmoved))},
            remedy="look at the learning rate of that parameter group",
        )
