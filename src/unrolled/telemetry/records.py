"""`TelemetryRecord` of a step, with its `ParameterRecord`s and `LayerRecord`s.

One line of ``telemetry.jsonl`` is one `TelemetryRecord` as JSON. Fields that a file lacks (an older
one, or a model without a recurrence) are None or empty.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_origin

from unrolled.telemetry import showing
from unrolled.untrusted import MOST_PARAMETERS

OLD_NAMES = {
    "fall_per_step": "decay_per_step",
    "reach": "horizon_steps",
    "borders": "truncation_points",
    "weight_gradient_split": "weight_gradient_per_step",
}
"""Fields of layers as runs of before 0.1.0 called them."""


@dataclass(frozen=True, slots=True)
class ParameterRecord:
    """One parameter at one step.

    Attributes:
        gradient_norm: L2 norm of its gradient before clipping.
        clipped_norm: the same after clipping.
        weight_norm: L2 norm of its values before the update.
        update_ratio: length of the update beside that of the values,
            ``||w_new - w|| / ||w||``; about 1e-3 is usual. None if the values are all 0.
        finite: whether values and gradient are free of NaN and infinity.
    """

    gradient_norm: float | None = None
    clipped_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    finite: bool = True


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One recurrent layer (and direction) at one step: gradients through time.

    Lists run over the time steps of the minibatch, 0 to T - 1, in the order of the text
    (for a layer that reads backwards too). Packed sequences differ in length: there a layer
    that reads backwards has every sequence end at T - 1, for all are at their first step then;
    what it reads last, the beginning of the longest sequence, is at 0.

    Attributes:
        hidden_gradient_mean: mean over the batch of ``||dL/dh_t||``.
        hidden_gradient_max: largest over the batch.
        decay_per_step: factor by which the mean norm changes for each step back from the
            last (geometric mean over the steps back to the truncation point); below 1 it vanishes,
            above 1 it explodes.
        horizon_steps: steps back from the last before the mean norm falls below 1% of its last;
            the number of steps there are to the truncation point if it never does.
        saturated: share of hidden units of this minibatch that are saturated,
            ``|h| > 0.99`` (for ReLU: dead, ``h = 0``); 0 of a cell of unknown kind whose
            states go beyond 1, as no tanh does. A saturated tanh unit passes next to nothing
            back; in a GRU or an LSTM the gates still may.
        weight_gradient_per_step: of each time step the norm of its part of ``dL/dW_hh``
            (all gates together); the parts themselves add up to ``dL/dW_hh``.
        truncation_points: time steps before which the gradient was cut by truncation; 0 where the
            minibatch itself begins with a state that is carried on.
        cell: ``"rnn"``, ``"rnn_relu"``, ``"gru"`` or ``"lstm"``; None if it is not known.
        gates: by name, as ``"forget"``, the share of values that are shut (below 0.01) and of
            those that are open (above 0.99). Empty where they are not known.
    """

    hidden_gradient_mean: list[float] = field(default_factory=list)
    hidden_gradient_max: list[float] = field(default_factory=list)
    decay_per_step: float | None = None
    horizon_steps: int | None = None
    saturated: float | None = None
    weight_gradient_per_step: list[float] = field(default_factory=list)
    truncation_points: list[int] = field(default_factory=list)
    cell: str | None = None
    gates: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class TelemetryRecord:
    """One training step.

    Attributes:
        step: from 1, counted over the whole training.
        epoch: from 1; None in a loop that has none.
        loss: mean over the minibatch's targets, before the update; None if not known.
        gradient_norm: global L2 norm of all gradients before clipping.
        clipped_norm: the same after clipping.
        clip_coefficient: what clipping multiplied the gradient by (1: not clipped); for
            the methods that clip tensors or values by themselves, the two norms' quotient.
        clip_method: ``"global_norm"``, ``"per_tensor"``, ``"value"``, ``"adaptive"``, or
            None where nothing clips.
        clip_threshold: what it clips at.
        parameters: by name.
        layers: by name, ``"layers.0"``, ``"layers.0.backward"``, ...; for a watched model
            the module's name. Empty where there is no recurrence, or none was traced.
        first_not_finite: name of the first tensor that was NaN or infinite, in the order
            of computation; None while all is well.
        on_nonfinite: what the training did about it: ``"stop"``, ``"skip"`` (the minibatch moved
            nothing) or ``"rollback"``; None if nothing was done, or that is not known.
        rolled_back_to: the step of the checkpoint that it went back to; 0 for the start.
        learning_rate: of the optimizer's first parameter group, as it was in this step; None
            if there is none, or it is not known.
        learning_rates: of all parameter groups, where they differ.
        optimizer: its class, as ``"AdamW"``; of several joined by ``" + "``; None if not known.
        weight_decay: of its first parameter group.
        uncleared: whether the gradients of the step before were still there and were added to.
        scaled_late: what the gradients of the step before were multiplied by after that step,
            when it changed nothing any more.
        unused: parameters without a gradient whose module did not run in a forward pass.
    """

    step: int
    epoch: int | None = None
    loss: float | None = None
    gradient_norm: float | None = None
    clipped_norm: float | None = None
    clip_coefficient: float | None = None
    clip_method: str | None = None
    clip_threshold: float | None = None
    parameters: dict[str, ParameterRecord] = field(default_factory=dict)
    layers: dict[str, LayerRecord] = field(default_factory=dict)
    first_not_finite: str | None = None
    on_nonfinite: str | None = None
    rolled_back_to: int | None = None
    learning_rate: float | None = None
    learning_rates: list[float] = field(default_factory=list)
    optimizer: str | None = None
    weight_decay: float | None = None
    uncleared: bool = False
    scaled_late: float | None = None
    unused: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return showing.lines(f"step {self.step:,}", showing.record_facts(self).items())

    def _repr_html_(self) -> str:
        return showing.table(f"step {self.step:,}", [*showing.record_facts(self).items()])

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; lists are the record's own."""
        data = _as_dict(self)
        for name in ("parameters", "layers"):
            data[name] = {key: _as_dict(part) for key, part in data[name].items()}
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TelemetryRecord":
        """The inverse of `as_dict`, for older versions too; unknown fields are left out.

        Null in lists, which stands for NaN and infinity in JSON, is NaN.

        Raises:
            ValueError: the data is no record: there is no step, or a field has another type.

        Example:
            >>> record = TelemetryRecord(step=1, epoch=1, loss=3.3, gradient_norm=0.5)
            >>> TelemetryRecord.from_dict(record.as_dict()) == record
            True
            >>> TelemetryRecord.from_dict({"step": 7, "loss": "high"})
            Traceback (most recent call last):
            ...
            ValueError: loss is 'high'; expected float | None
        """
        if type(data.get("step")) is not int:
            raise ValueError("it has no step")
        for name in ("parameters", "layers"):
            held = data.get(name)
            if isinstance(held, dict) and len(held) > MOST_PARAMETERS:
                raise ValueError(f"it has more than {MOST_PARAMETERS:,} {name}")
        return cls(**_checked_fields(cls, data))


def _as_dict(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _checked_fields(kind: Any, data: Any) -> dict[str, Any]:
    """The fields of a record by name, each checked."""
    if not isinstance(data, dict):
        raise ValueError(f"it is {data!r}; expected an object")
    named = {OLD_NAMES.get(name, name): value for name, value in data.items()}
    known = [each for each in fields(kind) if each.name in named]
    return {each.name: _checked(each.name, each.type, named[each.name]) for each in known}


def _checked(name: str, kind: Any, value: Any) -> Any:
    """The value of a field, if it is of its type: ``float | None``, ``dict[str, LayerRecord]``, ...

    Raises:
        ValueError: it is of another type.
    """
    if kind in (ParameterRecord, LayerRecord):
        return kind(**_checked_fields(kind, value))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict and isinstance(value, dict | None):
        return {key: _checked(key, arguments[1], part) for key, part in (value or {}).items()}
    allowed = str | None if str in arguments else int | float | None
    if origin is list and isinstance(value, list) and all(isinstance(v, allowed) for v in value):
        values = [math.nan if each is None else each for each in value]
        if kind != list[int]:
            return values
        if all(map(math.isfinite, values)):
            return [int(each) for each in values]
    if origin not in (dict, list) and isinstance(value, allowed):
        return value
    raise ValueError(f"{name} is {value!r}; expected {kind}")
