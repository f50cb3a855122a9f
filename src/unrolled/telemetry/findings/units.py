"""Findings about recurrent layers and their units: saturated, dead, truncated too early."""

import numpy as np
import numpy.typing as npt

from unrolled.functional.initial import is_bias
from unrolled.telemetry.columns import ENOUGH, Table, lasting, mean, median, ratio
from unrolled.telemetry.findings.finding import Finding, Findings, percent
from unrolled.telemetry.findings.gradients import DEAD, died
from unrolled.telemetry.history import History
from unrolled.telemetry.through_time import GATE_NAMES

SATURATED = 0.8
"""Share of saturated units from which on a layer is a set of switches."""

OFF = 0.95
"""Share of ReLU units at 0 from which on a layer is switched off; half of them is usual."""

PASSES_ON = 0.5
"""Share of the gradient that a step passes back, from which on saturated units of a layer of
unknown kind are no trouble: of a tanh they leave 2%, so it takes another way, through gates."""

STUCK = 0.8
"""Share of a gate's values that are shut, or shut and open, from which on it is a switch."""

STAY = "saturated units do not recover by themselves"

LARGE_INPUTS = 10.0
"""Gradient of the input weights beside that of the recurrent ones, from which on the inputs are
that much larger than hidden states, which are at most 1."""

STILL_GROWING, STILL_FALLING, ARRIVED = 1.25, 0.8, 0.1
"""Through-time profile at the truncation point beside halfway to it. Where it has
settled, the two are alike; where it still grows by a quarter, or still falls by a fifth
without having come below a tenth of the last, longer sequences would carry more."""


def saturated(h: History) -> Findings:
    """Units that are switches, and layers that have stopped learning."""
    layers = {} if h.loss.learned else h.layers
    for name, layer in layers.items():
        cell = h.cells.get(name)
        if cell in ("gru", "lstm"):
            yield from _gates(h, name, cell, layer)
            continue
        relu = cell == "rnn_relu"
        full = layer["saturated"] >= (OFF if relu else SATURATED)
        begin = lasting(full, layer["saturated"])
        if begin is None or (cell is None and median(layer["decay"][begin:]) >= PASSES_ON):
            continue
        yield _saturated(h, name, layer, full, begin, relu)
    if not any(np.isfinite(layer["saturated"]).any() for layer in h.layers.values()):
        yield from _dead(h)


def _saturated(
    h: History, name: str, layer: Table, full: npt.NDArray[np.bool_], begin: int, relu: bool
) -> Finding:
    norm, steps = h.steps["norm"], h.steps["step"]
    share = median(layer["saturated"][begin:])
    with np.errstate(invalid="ignore"):
        dead = lasting(full & (layer["weights"] <= DEAD * norm), layer["weights"])
    left = median(layer["weights"][begin if dead is None else dead :])
    what = "switched off (0)" if relu else "saturated (beyond 0.99)"
    text = f"From step {steps[begin]:,.0f} on {percent(share)} of the units of {name} are {what}"
    if dead is not None:
        since = f" from step {steps[dead]:,.0f} on" if dead > begin else ""
        text += f", and its recurrent weights get a gradient of {left:.2g}{since}: it is dead"
    from_the_start = begin == np.flatnonzero(np.isfinite(layer["saturated"]))[0]
    kind = "dead" if relu else "saturated and dead" if dead is not None else "saturated"
    return Finding(
        kind,
        "serious" if dead is not None else "warning",
        text + ".",
        step=int(steps[begin]),
        parameter=name,
        numbers={"saturated": share, **({"gradient": left} if dead is not None else {})},
        remedy=_smaller_start(h, name) if from_the_start else f"{_start_again(h)}; {STAY}",
    )


def _smaller_start(h: History, name: str) -> str:
    """Advice where units were saturated before the first step: by the weights, or the inputs."""
    if h.cells.get(name) == "rnn_relu":
        return "start from biases at 0 and recurrent weights at the identity"
    inputs = {n: p for n, p in h.parameters.items() if n.startswith(name.removesuffix(".backward"))}
    ours = [p["gradient"][:5] for n, p in inputs.items() if "weight_ih" in n or "W_xh" in n]
    theirs = [p["gradient"][:5] for n, p in inputs.items() if "weight_hh" in n or "W_hh" in n]
    if ours and theirs and median(ratio(ours[0], theirs[0])) >= LARGE_INPUTS:
        return "scale the inputs to a variance of about 1: they are far larger than hidden states"
    return (
        "start from smaller weights: orthogonal recurrent ones, and inputs and input weights "
        "whose products stay near 1"
    )


def _start_again(h: History) -> str:
    clip = "" if h.is_adaptive is True else ", or clipped gradients"
    return f"start again with a smaller learning rate{clip}"


def _gates(h: History, name: str, cell: str, layer: Table) -> Findings:
    """All gates switches, or one shut that lets nothing in or out."""
    gates: tuple[str, ...] = GATE_NAMES[cell]
    first = layer[f"{gates[0]} shut"]
    since = slice(len(first) // 2, None)  # later steps tell what has become of them
    shut = {gate: median(layer[f"{gate} shut"][since]) for gate in gates}
    both = {gate: median((layer[f"{gate} shut"] + layer[f"{gate} open"])[since]) for gate in gates}
    if not all(np.isfinite(share) for share in both.values()):
        return
    stuck = [gate for gate in gates if shut[gate] >= STUCK] if cell == "lstm" else []
    if min(both.values()) >= STUCK:
        text = f"{percent(min(both.values()))} of the values of every gate of {name} are 0 or 1"
        text += ", and pass no gradient back"
        advice, which = "start from smaller weights, and scale the inputs to a variance of 1", gates
    elif stuck:
        does = {
            "input": "nothing gets into its cells",
            "forget": "its cells forget everything at every time step",
            "output": "nothing gets out of its cells",
        }[stuck[0]]
        text = f"the {stuck[0]} gates of {name} are shut ({percent(shut[stuck[0]])}): {does}"
        which = tuple(stuck[:1])
        advice = f"give the {stuck[0]} gates a bias of {'1' if stuck[0] == 'forget' else '0'}"
    elif cell == "gru" and median(layer["update open"]) >= STUCK and len(h.loss.values):
        share = percent(median(layer["update open"]))
        keep = "its units keep their state, and nothing gets in"
        text = f"the update gates of {name} are open ({share}): {keep}"
        advice, which = "give the update gates a bias of 0 or 1", ("update",)
    else:
        return
    each = [layer[f"{gate} shut"] + layer[f"{gate} open"] >= STUCK for gate in which]
    begin = lasting(np.all(each, 0), first)
    if begin is None:
        return
    yield Finding(
        "gates saturated",
        "warning",
        f"From step {h.steps['step'][begin]:,.0f} on {text}.",
        step=int(h.steps["step"][begin]),
        parameter=name,
        numbers={f"{gate}_shut": shut[gate] for gate in gates},
        remedy=advice,
    )


def _dead(h: History) -> Findings:
    """Weights that got a gradient, and get none any more, where nothing is known of units."""
    norm, steps = h.steps["norm"], h.steps["step"]
    rows = {
        name: row
        for name, parameter in h.parameters.items()
        if not is_bias(name) and (row := died(parameter["gradient"], norm)) is not None
    }
    if rows:
        name, row = min(rows.items(), key=lambda pair: pair[1])
        left = median(h.parameters[name]["gradient"][row:])
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        yield Finding(
            "dead",
            "serious",
            f"From step {steps[row]:,.0f} on {name}{more} gets no gradient to speak of "
            f"({left:.2g}), though it did before: its units are switched off (ReLU) or saturated.",
            step=int(steps[row]),
            parameter=name,
            numbers={"gradient": left},
            remedy=f"{_start_again(h)}, or use leaky units",
        )


def truncation(h: History) -> Findings:
    """Truncation that cuts what would still have counted."""
    for name, layer in h.layers.items():
        cut = layer["truncated"] == 1
        if cut.sum() < ENOUGH or median(layer["window"]) < 4:
            continue
        first, middle, last = (mean(layer[k][cut]) for k in ("first", "middle", "last"))
        if not (middle > 0 and last > 0):  # no gradient, or NaN everywhere
            continue
        growing = first > STILL_GROWING * middle
        falling = first < STILL_FALLING * middle and first > ARRIVED * last
        if growing or falling:
            window = median(layer["window"][cut])
            yield Finding(
                "truncation too short",
                "note",
                f"At the truncation point, {window:.0f} steps back, the gradient of {name} is "
                f"{first / last:.2g} of the last step's and still "
                f"{'growing' if growing else 'falling'} ({first / middle:.2g} of that halfway): "
                "it would have reached further.",
                parameter=name,
                numbers={"truncation point": first, "middle": middle, "last": last}
                | {"window": window},
                remedy=f"use sequences of {2 * window:.0f} steps, with half the batch if memory "
                "is short",
            )
