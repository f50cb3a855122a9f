"""From the numbers of a traced layer to its record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from unrolled.backends import Array, Backend
from unrolled.telemetry.measures import rounded
from unrolled.telemetry.records import LayerRecord
from unrolled.telemetry.through_time import fall_per_step, layer_numbers, reach
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
    return {
        layer: replace(
            layer_record(
                [numbers[name] for name in names],
                [cut for i, cut in enumerate(found.cuts) if i < len(names)] or [False],
                carried,
                found.layers[names[0]].reverse,
            ),
            cell=found.layers[names[0]].cell,
        )
        for layer, names in pieces.items()
    }


def layer_record(
    pieces: Sequence[Sequence[float]],
    cuts: Sequence[bool],
    carried: bool = False,
    reverse: bool = False,
) -> LayerRecord:
    """The record of one layer.

    Args:
        pieces: of every piece of the sequence the numbers of `through_time.layer_numbers`.
        cuts: for every piece whether the gradient was cut before it.
        carried: whether the first state was that of earlier steps.
        reverse: whether the layer reads the sequence from its end.

    Example:
        >>> first, second = [0.5, 1.0, 1.0, 1.0, 0.1, 0.2, 0.0], [2.0, 2.0, 0.3, 0.5]
        >>> record = layer_record([first, second], [False, True], carried=True)
        >>> record.hidden_gradient_mean, record.weight_gradient_split, record.borders
        ([0.5, 1.0, 2.0], [0.1, 0.2, 0.3], [0, 2])
    """
    turn = -1 if reverse else 1
    curves: list[list[float]] = [[], [], []]
    saturated, borders = 0.0, [0] if carried else []
    for piece, cut in zip(pieces, cuts, strict=True):
        T = len(piece) // 3
        if cut and curves[0]:
            borders.append(len(curves[0]))
        for k, curve in enumerate(curves):
            curve += piece[k * T : (k + 1) * T][::turn]
        saturated += T * piece[-1]
    mean, largest, split = curves
    # back from the last step that was read; of a backward layer, in the piece read last
    border = max(borders, default=0)
    as_read = mean[border:][::turn]
    fall = fall_per_step(as_read)
    return LayerRecord(
        hidden_gradient_mean=mean,
        hidden_gradient_max=largest,
        fall_per_step=None if fall is None else rounded(fall),
        reach=reach(as_read),
        # units that are NaN, which the gradients then are too, are neither saturated nor not
        saturated=None if any(map(math.isnan, mean)) else rounded(saturated / len(mean)),
        weight_gradient_split=split,
        borders=borders,
    )
