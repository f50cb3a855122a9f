"""Build records of steps, parameters and layers from numbers that have left the device."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, count

from unrolled.telemetry.measures import coefficient, rounded
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord
from unrolled.telemetry.through_time import GATE_NAMES, decay_per_step, horizon_steps
from unrolled.training.tracing import ThroughTime

CLIPPED_BELOW = 1 - 1e-6
"""Quotient of the norms below which a gradient was clipped, and not just rounded."""


def watched_record(
    step: int,
    epoch: int | None,
    loss: float | None,
    parameters: dict[str, ParameterRecord],
    layers: dict[str, LayerRecord],
    clips_at: float | None = None,
    first_not_finite: str | None = None,
    rates: Sequence[float] = (),
) -> TelemetryRecord:
    """The record of a step whose global norms, and what clipping did, its parameters tell.

    ``clips_at`` is the threshold of clipping, if it was told; ``rates`` are the learning rates of
    all parameter groups that have one.
    """
    before = _norm_before(parameters)
    after = global_norm(p.clipped_norm for p in parameters.values())
    clip = None
    if before is not None and after is not None:
        clip = coefficient(before, after)
        clip = 1.0 if CLIPPED_BELOW < clip < 2 - CLIPPED_BELOW else clip
    clipped = clip is not None and clip < 1
    by_norm = _by_one_factor(parameters) if clipped else clips_at is not None
    return TelemetryRecord(
        step=step,
        epoch=epoch,
        loss=loss,
        gradient_norm=before,
        clipped_norm=after,
        clip_coefficient=clip,
        clip_method="global_norm" if by_norm else None,
        clip_threshold=clips_at,
        parameters=parameters,
        layers=layers,
        first_not_finite=first_not_finite,
        learning_rate=rates[0] if rates else None,
        learning_rates=list(rates) if len(set(rates)) > 1 else [],
    )


def _norm_before(parameters: Mapping[str, ParameterRecord]) -> float | None:
    """The norm before clipping, of the parameters that have moved, if any has, else of all.

    Others may have gradients that nobody will use. None if one of them is not known.
    """
    moved = [p for p in parameters.values() if p.clipped_norm is not None]
    if any(p.gradient_norm is None for p in moved):
        return None
    return global_norm(p.gradient_norm for p in moved or parameters.values())


def _by_one_factor(parameters: Mapping[str, ParameterRecord]) -> bool:
    """Whether clipping multiplied all gradients by the same factor."""
    factors = [
        p.clipped_norm / p.gradient_norm
        for p in parameters.values()
        if p.clipped_norm is not None and p.gradient_norm
    ]
    return bool(factors) and max(factors) - min(factors) < 1e-3 * max(factors)


def parameter_record(
    weight: float | None,
    gradient: float | None = None,
    clipped: float | None = None,
    moved: float | None = None,
    finite: bool = True,
) -> ParameterRecord:
    """The record of a parameter from the norms of its values, its gradient and its update."""
    ratio = rounded(moved / weight) if moved is not None and weight else None
    return ParameterRecord(gradient, clipped, weight, ratio, finite)


def layer_records(
    found: ThroughTime, numbers: Mapping[str, Sequence[float]], carried: bool
) -> dict[str, LayerRecord]:
    """The records of all traced layers, pieces of a sequence put together again.

    ``numbers`` are those of `through_time.layer_numbers` for every layer and piece; ``carried``
    says whether the minibatch began with the state after the one before.
    """
    pieces: dict[str, list[str]] = {}
    for name in found.layers:
        pieces.setdefault(name.partition("#")[0], []).append(name)
    records = {}
    for layer, names in pieces.items():
        first = found.layers[names[0]]
        starts = accumulate((found.layers[name].after.shape[0] for name in names[:-1]), initial=0)
        cuts = [carried, *found.cuts[1:]]
        truncation_points = [start for start, cut in zip(starts, cuts, strict=False) if cut]
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
    """The record of one layer, see `LayerRecord`.

    ``pieces`` are the numbers of `through_time.layer_numbers` of every piece of the sequence; of an
    unknown cell without the parts of the weights' gradient, ``2 * T + 1``. ``gates`` are those of
    `through_time.gate_shares`; the ``scale`` of the loss is taken back.
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
    mean, largest, per_step = curves
    # back from the last step that was read; of a backward layer, in the piece read last
    as_read = mean[max(truncation_points, default=0) :][::turn]
    decay = decay_per_step(as_read)
    names = GATE_NAMES[cell] if cell is not None and gates else ()
    return LayerRecord(
        hidden_gradient_mean=mean,
        hidden_gradient_max=largest,
        decay_per_step=None if decay is None else rounded(decay),
        horizon_steps=horizon_steps(as_read),
        # units that are NaN, which the gradients then are too, are neither saturated nor not
        saturated=None if any(map(math.isnan, mean)) else rounded(saturated / len(mean)),
        weight_gradient_per_step=per_step,
        truncation_points=list(truncation_points),
        cell=cell,
        gates={name: list(gates[2 * i : 2 * i + 2]) for i, name in enumerate(names)},
    )


def numbered(names: Iterable[str]) -> list[str]:
    """Names of which no two are the same: ``rnn``, ``out``, ``rnn#2``."""
    taken: dict[str, None] = {}
    for name in names:
        free = (label for n in count(1) if (label := again(name, n)) not in taken)
        taken[next(free)] = None
    return list(taken)


def again(name: str, number: int) -> str:
    """What is called ``name``, seen for the n-th time: ``rnn``, ``rnn#2``, ..."""
    return name if number == 1 else f"{name}#{number}"


def global_norm(norms: Iterable[float | None]) -> float | None:
    """The norm of all together, of those that are known; None if none is."""
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if known else None
