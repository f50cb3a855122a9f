"""Curves of a fused layer: the norms of its gradients through time, from its recomputed calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unrolled.backends.torch import xp
from unrolled.telemetry import through_time
from unrolled.torch import fused
from unrolled.torch.fused_direction import Layer, joined
from unrolled.torch.recompute import recompute


@dataclass(frozen=True)
class Curves:
    """What was found about a sequence of one layer, still on the device.

    Attributes:
        numbers: as `through_time.layer_numbers` has them, ``(3 * T + 1,)``; of an unknown cell
            without the parts of the weight's gradient, ``(2 * T + 1,)``.
        reverse: whether the layer reads from the end.
        truncation_points: time steps before which the gradient was cut.
        cell: name in `unrolled.functional.bptt.STEPS`; None if it is not known.
        gates: as `unrolled.telemetry.through_time.gate_shares` has them; None without gates.
    """

    numbers: torch.Tensor
    reverse: bool = False
    truncation_points: tuple[int, ...] = ()
    cell: str | None = None
    gates: torch.Tensor | None = None


def of_fused(
    label: str,
    calls: Sequence[tuple[fused.Call, Mapping[Any, torch.Tensor]]],
    truncation_points: tuple[int, ...],
    notes: dict[str, str],
) -> dict[str, Curves]:
    """The curves of all layers and directions of a fused module.

    Args:
        label: name of the module's sequence.
        calls: that make the sequence, each with the gradients at what it returned: at its
            outputs under ``"Y"``, at the arrays of its last state under 0 and 1.
        truncation_points: time steps before which the gradient was cut.
        notes: where to say what cannot be known, under the label.
    """
    layers: list[list[Layer]] = []
    for call, gradients in calls:
        ends = [gradients.get(place) for place in range(len(call.first))]
        fused.arrived(call, gradients.get("Y"), ends)
        found, note = recompute(call)
        if note:
            notes[label] = note
        layers.append(found)
    result = {}
    layer, cell = calls[0][0].layer, calls[0][0].cell
    for parts in zip(*layers, strict=True):
        first = parts[0]
        number = f".{first.number}" if layer.num_layers > 1 else ""
        result[f"{label}{number}{'.backward' if first.reverse else ''}"] = Curves(
            _numbers(parts, cell), first.reverse, () if first.reverse else truncation_points, cell,
            parts[-1].gates,
        )  # fmt: skip
    return result


def _numbers(parts: Sequence[Layer], cell: str) -> torch.Tensor:
    """All steps of a layer as one vector, see `Curves`."""
    names = ("hidden", "recurrent", "before", "after")
    every = [joined([getattr(part, name) for part in parts]) for name in names]  # (T, B, .)
    steps, batch = every[0].shape[:2]
    numbers: torch.Tensor = through_time.layer_numbers(xp, cell, *every)
    running = parts[0].running
    if running is not None and len(parts) == 1:
        # sequences that have ended count neither in the mean nor among the units
        numbers[:steps] *= batch / running.sum(1).to(numbers.dtype)
        numbers[-1] = through_time.saturated_share(xp, every[3][running], cell)
    return numbers
