"""Curves of a fused layer: the norms of its gradients through time, from its recomputed calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrolled.backends.torch import xp
from unrolled.telemetry import through_time
from unrolled.torch.through_time.direction import Direction, joined
from unrolled.torch.through_time.fused_call import FusedCall
from unrolled.torch.through_time.recompute import recompute

if TYPE_CHECKING:
    from unrolled.torch.data_parallel import DataParallel


@dataclass(frozen=True)
class Curves:
    """Gradients through time of a sequence of one layer, still on the device."""

    # those of `through_time.layer_numbers`, (3 * T + 1,); of states alone without the parts of the
    # weight's gradient, (2 * T + 1,)
    numbers: torch.Tensor
    reverse: bool = False  # whether the layer reads from the end
    truncation_points: tuple[int, ...] = ()  # time steps before which the gradient was cut
    cell: str | None = None  # name in `unrolled.functional.bptt.STEPS`; None if it is not known
    gates: torch.Tensor | None = None  # those of `through_time.gate_shares`; None without gates
    states_alone: bool = False  # whether nothing but the states is known


def of_fused(
    label: str,
    calls: Sequence[FusedCall],
    truncation_points: tuple[int, ...],
    notes: dict[str, str],
    together: "DataParallel | None" = None,
) -> dict[str, Curves]:
    """The curves of all layers and directions of a fused module, by names that begin with a label.

    What cannot be known becomes a note, under the label. Where several processes have a part of the
    minibatch each, ``together`` makes those of the whole one.
    """
    layers = []
    for call in calls:
        found = recompute(call)
        if isinstance(found, str):
            notes[label] = found
            return {}
        layers.append(found)
    result = {}
    layer, cell = calls[0].layer, calls[0].cell
    for parts in zip(*layers, strict=True):
        first, gates = parts[0], through_time.gate_shares(xp, parts[-1].tapes)
        number = f".{first.number}" if layer.num_layers > 1 else ""
        result[f"{label}{number}{'.backward' if first.reverse else ''}"] = Curves(
            numbers=_numbers(parts, cell, together),
            reverse=first.reverse,
            truncation_points=() if first.reverse else truncation_points,
            cell=cell,
            gates=gates if gates is None or together is None else together.mean(gates),
        )
    return result


def _numbers(
    parts: Sequence[Direction], cell: str, together: "DataParallel | None"
) -> torch.Tensor:
    """All steps of a layer as one vector, see `Curves`."""
    arrays = zip(*(part.arrays() for part in parts), strict=True)
    every = [joined(list(of_parts)) for of_parts in arrays]  # (T, B, .)
    if together is not None:
        gradients = [together.gather(x, 1) / together.parts for x in every[:2]]
        every = gradients + [together.gather(x, 1) for x in every[2:]]
    steps, batch = every[0].shape[:2]
    numbers: torch.Tensor = through_time.layer_numbers(xp, cell, *every)
    running = parts[0].running()
    if running is not None and len(parts) == 1:
        # sequences that have ended count neither in the mean nor among the units
        numbers[:steps] *= batch / running.sum(1).to(numbers.dtype)
        numbers[-1] = through_time.saturated_share(xp, every[3][running], cell)
    return numbers
