"""`LayerNumbers` computes the numbers of traced layers; `layer_record` makes their records."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from unrolled.backends import Array, Backend
from unrolled.telemetry.gates import by_gate
from unrolled.telemetry.measures import rounded
from unrolled.telemetry.records import LayerRecord
from unrolled.telemetry.through_time import decay_per_step, horizon_steps, layer_numbers
from unrolled.training.tracing import ThroughTime


class LayerNumbers:
    """Computes what is recorded of traced layers, where their arrays are.

    Args:
        backend: of the model.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._compiled: dict[str, Any] = {}

    def __call__(self, found: ThroughTime) -> dict[str, Array]:
        """Of every layer (and piece) the vector of `through_time.layer_numbers`."""
        vectors = {}
        for name, layer in found.layers.items():
            if layer.cell not in self._compiled:
                compute = partial(layer_numbers, self.backend.xp, layer.cell)
                self._compiled[layer.cell] = self.backend.compile(compute)
            arrays = layer.hidden, layer.recurrent, layer.first, layer.after
            vectors[name] = self._compiled[layer.cell](*arrays)
        return vectors


def layer_records(
    found: ThroughTime, numbers: Mapping[str, Sequence[float]], carried: bool
) -> dict[str, LayerRecord]:
    """The records of all layers, pieces of a sequence put together again.

    Args:
        found: the traced recurrences.
        numbers: what `LayerNumbers` gave, on the CPU.
        carried: whether the minibatch began with the state after the one before.
    """
    pieces: dict[str, list[str]] = {}
    for name in found.layers:
        pieces.setdefault(name.partition("#")[0], []).append(name)
    records = {}
    for layer, names in pieces.items():
        first = found.layers[names[0]]
        starts = accumulate(found.layers[name].after.shape[0] for name in names[:-1])
        truncation_points = [
            start for start, cut in zip(starts, found.cuts[1:], strict=False) if cut
        ]
        truncation_points = [0, *truncation_points] if carried else truncation_points
        of_pieces = [numbers[name] for name in names]
        records[layer] = layer_record(of_pieces, truncation_points, first.reverse, first.cell)
    return records


def layer_record(
    pieces: Sequence[Sequence[float]],
    truncation_points: Sequence[int] = (),
    reverse: bool = False,
    cell: str | None = None,
    gates: Sequence[float] = (),
    scale: float = 1.0,
) -> LayerRecord:
    """The record of one layer.

    Args:
        pieces: of every piece of the sequence the numbers of `through_time.layer_numbers`; of
            an unknown cell without the parts of the weights' gradient, ``2 * T + 1``.
        truncation_points: time steps before which the gradient was cut.
        reverse: whether the layer reads the sequence from its end.
        cell: name in `unrolled.functional.bptt.STEPS`; None if it is not known.
        gates: as `unrolled.telemetry.gates.gate_shares` has them.
        scale: of the loss, which is taken back.

    Example:
        >>> first, second = [0.5, 1.0, 1.0, 1.0, 0.1, 0.2, 0.0], [2.0, 2.0, 0.3, 0.5]
        >>> record = layer_record([first, second], truncation_points=[0, 2], cell="rnn")
        >>> record.hidden_gradient_mean, record.weight_gradient_per_step, record.horizon_steps
        ([0.5, 1.0, 2.0], [0.1, 0.2, 0.3], 0)
    """
    turn = -1 if reverse else 1
    curves: list[list[float]] = [[], [], []]
    kinds = 2 if cell is None else 3
    saturated = 0.0
    for piece in pieces:
        T = len(piece) // kinds
        for k in range(kinds):
            curves[k] += [number / scale for number in piece[k * T : (k + 1) * T]][::turn]
        saturated += T * piece[-1]
    mean, largest, split = curves
    # back from the last step that was read; of a backward layer, in the piece read last
    as_read = mean[max(truncation_points, default=0) :][::turn]
    fall = decay_per_step(as_read)
    return LayerRecord(
        hidden_gradient_mean=mean,
        hidden_gradient_max=largest,
        decay_per_step=None if fall is None else rounded(fall),
        horizon_steps=horizon_steps(as_read),
        # units that are NaN, which the gradients then are too, are neither saturated nor not
        saturated=None if any(map(math.isnan, mean)) else rounded(saturated / len(mean)),
        weight_gradient_per_step=split,
        truncation_points=list(truncation_points),
        cell=cell,
        gates=by_gate(cell, gates),
    )
