"""Build records of steps and of parameters from their norms."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from unrolled.telemetry.measures import coefficient, rounded
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord

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

    Args:
        step, epoch, loss, parameters, layers, first_not_finite: as in `TelemetryRecord`.
        clips_at: the threshold that the training clips at, if it was told.
        rates: learning rates, of every parameter group that has one.

    Example:
        >>> parameters = {"W": ParameterRecord(3.0, 1.5), "b": ParameterRecord(4.0, 2.0)}
        >>> record = watched_record(1, None, 0.7, parameters, {})
        >>> record.gradient_norm, record.clip_coefficient, record.clip_method
        (5.0, 0.5, 'global_norm')
    """
    clip = clip_coefficient(parameters)
    return TelemetryRecord(
        step=step,
        epoch=epoch,
        loss=loss,
        gradient_norm=norm_before(parameters),
        clipped_norm=global_norm(p.clipped_norm for p in parameters.values()),
        clip_coefficient=clip,
        clip_method=clip_method(parameters, clip, clips_at),
        clip_threshold=clips_at,
        parameters=parameters,
        layers=layers,
        first_not_finite=first_not_finite,
        learning_rate=rates[0] if rates else None,
        learning_rates=list(rates) if len(set(rates)) > 1 else [],
    )


def parameter_record(
    weight: float | None,
    gradient: float | None = None,
    clipped: float | None = None,
    moved: float | None = None,
    finite: bool = True,
) -> ParameterRecord:
    """The record of a parameter from the norms of its values, its gradient and its update.

    Example:
        >>> parameter_record(weight=4.0, gradient=0.5, moved=0.01).update_ratio
        0.0025
    """
    ratio = rounded(moved / weight) if moved is not None and weight else None
    return ParameterRecord(gradient, clipped, weight, ratio, finite)


def numbered(names: Iterable[str]) -> list[str]:
    """Names of which no two are the same: those that come again have a number.

    Example:
        >>> numbered(["rnn", "out", "rnn"])
        ['rnn', 'out', 'rnn#2']
    """
    taken: dict[str, None] = {}
    for name in names:
        free = (label for n in count(1) if (label := again(name, n)) not in taken)
        taken[next(free)] = None
    return list(taken)


def again(name: str, number: int) -> str:
    """What is called ``name``, seen for the n-th time.

    Example:
        >>> again("rnn", 1), again("rnn", 2)
        ('rnn', 'rnn#2')
    """
    return name if number == 1 else f"{name}#{number}"


def global_norm(norms: Iterable[float | None]) -> float | None:
    """The norm of all together, of those that are known.

    Example:
        >>> global_norm([3.0, None, 4.0])
        5.0
    """
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if known else None


def norm_before(parameters: Mapping[str, ParameterRecord]) -> float | None:
    """The norm before clipping, of the parameters that have moved, if any has, else of all.

    Others may have gradients that nobody will use. None if that of one is not known.

    Example:
        >>> used, unused = ParameterRecord(3.0, 1.5), ParameterRecord(4.0)
        >>> norm_before({"W": used, "b": unused}), norm_before({"b": unused})
        (3.0, 4.0)
        >>> norm_before({"W": used, "b": ParameterRecord(None, 1.5)})
    """
    moved = [p for p in parameters.values() if p.clipped_norm is not None]
    if any(p.gradient_norm is None for p in moved):
        return None
    return global_norm(p.gradient_norm for p in moved or parameters.values())


def clip_coefficient(parameters: Mapping[str, ParameterRecord]) -> float | None:
    """What clipping multiplied the gradients by, of the parameters that have moved.

    None if nothing is known of before or after.
    """
    before = norm_before(parameters)
    after = global_norm(p.clipped_norm for p in parameters.values())
    if before is None or after is None:
        return None
    clip = coefficient(before, after)
    return 1.0 if CLIPPED_BELOW < clip < 2 - CLIPPED_BELOW else clip


def clip_method(
    parameters: Mapping[str, ParameterRecord], clip: float | None, clips_at: float | None
) -> str | None:
    """``"global_norm"`` if all gradients were clipped by one factor; None if that is not known.

    Args:
        parameters: with norms before and after.
        clip: the coefficient.
        clips_at: the threshold, if it was told.
    """
    if clip is None or clip >= 1:
        return None if clips_at is None else "global_norm"
    factors = [
        p.clipped_norm / p.gradient_norm
        for p in parameters.values()
        if p.clipped_norm is not None and p.gradient_norm
    ]
    alike = bool(factors) and max(factors) - min(factors) < 1e-3 * max(factors)
    return "global_norm" if alike else None
