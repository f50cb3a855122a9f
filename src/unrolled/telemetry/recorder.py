"""`Telemetry`: the listener that makes a telemetry record of every n-th training step."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, ClassVar

from unrolled.backends import Array, Backend
from unrolled.errors import SettingError
from unrolled.functional.bptt import STEPS
from unrolled.telemetry.build_records import layer_record, layer_records, parameter_record
from unrolled.telemetry.measures import all_rounded, changes, coefficient, norms, rounded
from unrolled.telemetry.not_finite import first_not_finite
from unrolled.telemetry.records import ParameterRecord, TelemetryRecord
from unrolled.telemetry.through_time import layer_numbers
from unrolled.training.position import generators, load_generators
from unrolled.training.records import Backward, Listener, StepRecord
from unrolled.training.tracing import ThroughTime

Sink = Callable[[TelemetryRecord], object]

RECORDS = 200
"""Records of a training if nothing else is asked for: a screen shows no more columns, and with
35 time steps and one layer the file stays at half a megabyte."""


def period(every: int | None, steps: int) -> int:
    """Steps from one record to the next, in a training of so many."""
    return max(1, steps // RECORDS) if every is None else every


class Telemetry(Listener):
    """Records of every n-th step: loss, norms by parameter and through time, saturation.

    Everything is computed where the arrays are, and leaves the device once a record, as one
    vector. Steps in between cost nothing. Only the latest record, ``last``, stays in memory.

    Args:
        every: steps from one record to the next, the first step being the first; None makes
            about 200 records of the training; 0 makes none.
        sinks: called with every record.

    Example:
        >>> from unrolled import torch
        >>> data = torch.TextData("hello world " * 100, batch_size=4, num_steps=10, seed=0)
        >>> model = torch.LanguageModel(len(data.vocab), num_hiddens=8)
        >>> records = []
        >>> telemetry = Telemetry(every=10, sinks=[records.append])
        >>> torch.Trainer(2, gradient_clip_val=1, listeners=[telemetry]).fit(model, data)
        >>> [record.step for record in records]
        [1, 11, 21, 31, 41, 51]
        >>> len(records[-1].layers["layers.0"].hidden_gradient_mean)
        10
    """

    takes_rows: ClassVar[bool] = True
    _arrays: dict[str, Array]
    _names: tuple[str, ...]
    _watched: dict[str, Any]

    def __init__(self, every: int | None = None, sinks: Iterable[Sink] = ()) -> None:
        if every is not None and every < 0:
            raise SettingError(f"telemetry every {every} steps; it must be 0 (off) or more")
        self.every = every
        self.sinks = list(sinks)
        self.last: TelemetryRecord | None = None

    def on_fit_start(self, trainer: Any) -> None:
        backend, xp = trainer.backend, trainer.backend.xp
        steps = trainer.max_epochs * trainer.num_train_batches
        self.period = period(self.every, steps)
        self._norms = backend.compile(partial(norms, xp))
        self._changes = backend.compile(partial(changes, xp))
        self._stack = backend.compile(lambda vectors: xp.concat(list(vectors), 0))
        self._layer_numbers = {
            cell: backend.compile(partial(layer_numbers, xp, cell)) for cell in STEPS
        }
        self._watch = trainer.watch_layers() if self.period else None
        self._logs = False
        self._forget()

    def state_dict(self) -> int:
        return self.period

    def load_state_dict(self, state: int) -> None:
        self.period = state  # also where there are more epochs now

    def on_batch(self, trainer: Any, step: int) -> bool:
        self._logs = bool(self.period) and (step - 1) % self.period == 0
        if self._logs and self._watch is not None:
            self._watch.start()
        return self._logs

    def on_backward(self, trainer: Any, backward: Backward) -> None:
        if self._logs:
            self._measure(trainer, backward, backward.through_time or ThroughTime())

    def on_step(self, trainer: Any, step: StepRecord) -> None:
        if not self._logs:
            return
        new, old = trainer.parameters, trainer.last_good
        with trainer.backend.without_gradients():
            moved = self._changes(tuple(new.values()), tuple(old[name] for name in new))
        self._arrays["updates"] = moved
        self._emit(trainer, step)

    def on_not_finite(self, trainer: Any, step: StepRecord, backward: Backward | None) -> None:
        """A record of the step that failed, whether or not it was its turn."""
        if not self.period:
            return
        if backward is None:
            self._arrays["norms"] = self._norms(tuple(trainer.parameters.values()))
        elif not self._logs:  # else it is measured
            found = backward.through_time or self._through_time(trainer, backward)
            self._measure(trainer, backward, found)
        first = first_not_finite(trainer.backend, trainer.parameters, backward, self._found)
        self._logs = False  # this is its record
        self._emit(trainer, step, first)

    def _through_time(self, trainer: Any, backward: Backward) -> ThroughTime:
        batch, state = backward.batch, backward.state
        before = generators(trainer.backend)  # what drops units draws once more
        found: ThroughTime = trainer.tracer(trainer.parameters, batch, state, *trainer.context)[2]
        load_generators(trainer.backend, before)
        return found

    def _measure(self, trainer: Any, backward: Backward, found: ThroughTime) -> None:
        """Compute the numbers of a step; they stay where the arrays are."""
        names = tuple(backward.gradients)
        with trainer.backend.without_gradients():
            weights, gradients = trainer.parameters.values(), backward.gradients.values()
            self._arrays["norms"] = self._norms((*weights, *gradients))
            if names and trainer.gradient_clip_method != "global_norm":
                # there one factor for all says the same; compiled code may have sorted these
                clipped = tuple(backward.clipped[name] for name in names)
                self._arrays["clipped"] = self._norms(clipped)
            for name, layer in found.layers.items():
                arrays = layer.hidden, layer.recurrent, layer.first, layer.after
                self._arrays[name] = self._layer_numbers[layer.cell](*arrays)
        self._names, self._found = names, found
        self._carried = backward.carried
        if self._watch is not None:
            self._watched = self._watch.curves()
            for name, curves in self._watched.items():
                self._arrays["numbers of " + name] = curves.numbers
                if curves.gates is not None:
                    self._arrays["gates of " + name] = curves.gates

    def _emit(self, trainer: Any, step: StepRecord, first: str | None = None) -> None:
        """Take the numbers off the device and make a record of them."""
        numbers = self._transfer(trainer.backend)
        clips = trainer.gradient_clip_val > 0
        fused = {
            name: layer_record(
                [numbers["numbers of " + name]],
                curves.truncation_points,
                curves.reverse,
                curves.cell,
                numbers.get("gates of " + name, ()),
            )
            for name, curves in self._watched.items()
        }
        self.last = TelemetryRecord(
            step=step.step,
            epoch=step.epoch,
            loss=step.loss,
            gradient_norm=step.gradient_norm,
            clipped_norm=step.clipped_norm,
            clip_coefficient=rounded(coefficient(step.gradient_norm, step.clipped_norm)),
            clip_method=trainer.gradient_clip_method if clips else None,
            clip_threshold=trainer.gradient_clip_val if clips else None,
            parameters=_parameter_records(step, tuple(trainer.parameters), self._names, numbers),
            layers=layer_records(self._found, numbers, self._carried) | fused,
            first_not_finite=first,
            on_nonfinite=step.on_nonfinite,
            rolled_back_to=step.rolled_back_to,
            **optimizer_fields(trainer.optim),
        )
        self._forget()
        for sink in self.sinks:
            sink(self.last)

    def _transfer(self, backend: Backend) -> dict[str, list[float]]:
        """All vectors, as one, on the CPU."""
        arrays = self._arrays
        flat = iter(all_rounded(backend.to_numpy(self._stack(tuple(arrays.values()))).tolist()))
        return {name: list(islice(flat, array.shape[0])) for name, array in arrays.items()}

    def _forget(self) -> None:
        """Let go of all arrays."""
        self._arrays, self._names = {}, ()
        self._found, self._watched, self._carried = ThroughTime(), {}, False


def to_lines(write: Callable[[dict[str, Any]], object], part: str | None = None) -> Sink:
    """A sink that writes lines of ``telemetry.jsonl``; they begin with ``part``, if any."""
    head = {} if part is None else {"part": part}
    return lambda record: write({**head, **record.as_dict()})


def optimizer_fields(optimizer: Any) -> dict[str, Any]:
    """Name, learning rate and weight decay of an optimizer of any framework, if it tells them."""
    inner = getattr(optimizer, "optimizer", optimizer)  # of gluon's Trainer
    group: dict[str, Any] = next(iter(getattr(inner, "param_groups", ())), {})
    found: dict[str, Any] = {"optimizer": type(inner).__name__}
    for field, names in (("learning_rate", ("lr", "learning_rate")), ("weight_decay", ("wd",))):
        values = (group.get(n, getattr(inner, n, None)) for n in (*names, field))
        value = next((v for v in values if v is not None), None)
        try:
            found[field] = None if value is None else rounded(float(value))
        except (TypeError, ValueError):  # a schedule, which tells its rate for steps only
            found[field] = None
    return found


def _parameter_records(
    step: StepRecord,
    names: Sequence[str],
    with_gradient: Sequence[str],
    numbers: dict[str, list[float]],
) -> dict[str, ParameterRecord]:
    """The records of all parameters from the vectors of their norms."""
    weights, gradients = numbers["norms"][: len(names)], numbers["norms"][len(names) :]
    before = dict(zip(with_gradient, gradients, strict=True))
    clipped = dict(zip(with_gradient, numbers.get("clipped", ()), strict=False))
    moved = dict(zip(names, numbers.get("updates", ()), strict=False))
    scale = coefficient(step.gradient_norm, step.clipped_norm)
    records = {}
    for name, weight in zip(names, weights, strict=True):
        gradient = before.get(name)
        after = clipped.get(name, None if gradient is None else rounded(gradient * scale))
        finite = math.isfinite(weight) and math.isfinite(gradient or 0.0)
        records[name] = parameter_record(weight, gradient, after, moved.get(name), finite)
    return records
