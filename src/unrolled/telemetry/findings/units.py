"""Findings about recurrent layers and their units: saturated, dead, truncated too early."""

import numpy as np

from unrolled.functional.initial import is_bias
from unrolled.telemetry.findings.finding import (
    NOTE,
    SERIOUS,
    WARNING,
    Finding,
    Findings,
    lasting,
    mean,
    median,
)
from unrolled.telemetry.findings.gradients import DEAD, died
from unrolled.telemetry.history import ENOUGH, History

SATURATED = 0.9
"""Share of saturated units from which on a layer is a set of switches."""

PASSES_ON = 0.5
"""Share of the gradient that a step passes back, from which on saturated units are no trouble:
of a tanh they leave 2%, so it takes another way, through the gates of a GRU or an LSTM."""

STILL_GROWING, STILL_FALLING, ARRIVED = 1.25, 0.8, 0.1
"""Through-time profile at the border of truncation beside halfway to it. Where it has
settled, the two are alike; where it still grows by a quarter, or still falls by a fifth
without having come below a tenth of the last, longer sequences would carry more."""


def saturated(h: History) -> Findings:
    """Units that are switches, and layers that have stopped learning."""
    norm, steps = h.steps["norm"], h.steps["step"]
    for name, layer in h.layers.items():
        full = layer["saturated"] >= SATURATED
        begin = lasting(full, layer["saturated"])
        if begin is None or median(layer["fall"][begin:]) >= PASSES_ON:
            continue
        share = median(layer["saturated"][begin:])
        with np.errstate(invalid="ignore"):
            dead = lasting(full & (layer["split"] <= DEAD * norm), layer["split"])
        at = begin if dead is None else dead
        left = median(layer["split"][at:])
        text = f"From step {steps[at]:.0f} on {share:.0%} of the units of {name} are saturated"
        if dead is not None:
            text += f", and its recurrent weights get a gradient of {left:.2g}: it is dead"
        yield Finding(
            "saturated and dead" if dead is not None else "saturated",
            SERIOUS if dead is not None else WARNING,
            text + ".",
            int(steps[at]),
            name,
            {"saturated": share, **({"gradient": left} if dead is not None else {})},
            "start again with a smaller learning rate, clipping, or smaller initial weights; "
            "saturated units do not recover by themselves",
        )
    if any(layer["saturated"].size for layer in h.layers.values()):
        return
    for name, parameter in h.parameters.items():
        gradient = parameter["gradient"]
        if not is_bias(name) and (row := died(gradient, norm)) is not None:
            yield Finding(
                "dead",
                SERIOUS,
                f"From step {steps[row]:.0f} on {name} gets no gradient to speak of "
                f"({median(gradient[row:]):.2g}), though it did before.",
                int(steps[row]),
                name,
                {"gradient": median(gradient[row:])},
                "its units are switched off (ReLU) or saturated: start again with a smaller "
                "learning rate, or use leaky units",
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
                NOTE,
                f"At the border, {window:.0f} steps back, the gradient of {name} is "
                f"{first / last:.2g} of the last step's and still "
                f"{'growing' if growing else 'falling'} ({first / middle:.2g} of that halfway): "
                "it would have reached further.",
                None,
                name,
                {"border": first, "middle": middle, "last": last, "window": window},
                f"use sequences of {2 * window:.0f} steps, with half the batch if memory is short",
            )
