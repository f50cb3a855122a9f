"""`assemble` makes the record of an optimizer step from tensors, in one transfer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from unrolled.telemetry.build_records import layer_record, parameter_record, watched_record
from unrolled.telemetry.records import LayerRecord, TelemetryRecord
from unrolled.torch.through_time.curves import Curves
from unrolled.watch.torch.forward_trace import ForwardTrace
from unrolled.watch.torch.loss_scale import LossScale
from unrolled.watch.torch.step import Step, to_floats
from unrolled.watch.torch.step_facts import StepFacts


def assemble(
    number: int,
    step: Step,
    curves: Mapping[str, Curves],
    forward_trace: ForwardTrace,
    clips_at: float | None,
    scaling: LossScale,
    facts: StepFacts,
) -> tuple[TelemetryRecord | None, str | None]:
    """The record of a step, and what there is to say of a loss scaler; in one transfer.

    There is no record if the optimizer was told to skip the step.
    """
    single = {"scale": step.scale, "left_scaled": step.left_scaled, "skipped": step.skipped}
    tensors: dict[Any, torch.Tensor] = {k: v for k, v in single.items() if v is not None}
    for kind in ("gradient", "largest", "clipped", "weight", "moved"):
        tensors |= {(kind, name): norm for name, norm in getattr(step, kind).items()}
    tensors |= {("curves", name): each.numbers for name, each in curves.items()}
    tensors |= {("gates", n): each.gates for n, each in curves.items() if each.gates is not None}
    tensors |= {("sum", name): value for name, value in forward_trace.sums.items()}
    losses = [torch.as_tensor(loss).float().mean() for loss in forward_trace.losses]
    tensors |= {("loss", place): loss for place, loss in enumerate(losses)}
    found = to_floats(tensors)
    if found.get("skipped", [0.0])[0] > 0:
        return None, None
    (scale, said), left = scaling.of(step, found), found.get("left_scaled", [1.0])[0]

    def norm(kind: str, name: str, divide: float | None = 1.0) -> float | None:
        values = found.get((kind, name))
        return None if values is None or divide is None else values[0] / divide

    parameters = {}
    for name in step.weight:
        weight, largest = norm("weight", name), norm("largest", name)
        parameters[name] = parameter_record(
            weight,
            norm("gradient", name, scale),
            norm("clipped", name, left),
            norm("moved", name),
            finite=all(value is None or math.isfinite(value) for value in (weight, largest)),
        )
    layers = {}
    for name, each in curves.items() if scale is not None else ():
        gates = found.get(("gates", name), ())
        layers[name] = _layer(each, found["curves", name], gates, scale or 1.0)
    loss = [found["loss", place][0] for place in range(len(losses))]
    record = watched_record(
        step=number,
        epoch=None,
        loss=sum(loss) / len(loss) if loss else None,
        parameters=parameters,
        layers=layers,
        clips_at=clips_at,
        first_not_finite=_first(found, step, loss),
        rates=[float(rate) for rate in step.rates],
    )
    return replace(record, **facts.fields(parameters)), said


def _layer(
    curves: Curves, numbers: Sequence[float], gates: Sequence[float], scale: float
) -> LayerRecord:
    cell = None if curves.states_alone else curves.cell
    found = layer_record([numbers], curves.truncation_points, curves.reverse, cell, gates, scale)
    saturated = None if math.isnan(found.saturated or 0.0) else found.saturated
    return replace(found, cell=curves.cell, saturated=saturated)


def _first(found: Mapping[Any, list[float]], step: Step, losses: Sequence[float]) -> str | None:
    """The first tensor that was not finite, in the order of computation.

    Only where it did harm: a mask of minus infinity is no accident.
    """
    harm = [*losses, *(v[0] for key, v in found.items() if key[0] in ("largest", "weight"))]
    sums = [v[0] for key, v in found.items() if key[0] == "sum"]
    if all(map(math.isfinite, harm)) and not any(map(math.isnan, sums)):
        return None
    in_order = [
        *((f"the weight {key[1]}", v) for key, v in found.items() if key[0] == "weight"),
        *((key[1], v) for key, v in found.items() if key[0] == "sum"),
        *(("the loss", [loss]) for loss in losses),
        *(
            (f"the gradient of {name}", found["largest", name])
            for name in step.fresh
            if ("largest", name) in found
        ),
    ]
    bad = (name for name, values in in_order if not all(map(math.isfinite, values)))
    return next(bad, None)
