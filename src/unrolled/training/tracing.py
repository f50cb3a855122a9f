"""`Tracer` differentiates a minibatch and also gives its gradients through time."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from unrolled.backends import Array
from unrolled.kernels.taps import Trace, tracing

TAP = "taps."
"""What stands before the names of taps among those of the parameters."""

MOST_SHAPES = 8
"""Shapes of minibatches whose taps are kept."""


@dataclass(frozen=True)
class TracedLayer:
    """A recurrent layer at one minibatch, in the order in which it reads the sequence.

    Attributes:
        cell: name in `unrolled.functional.bptt.STEPS`.
        reverse: whether it reads from the end.
        hidden: dL/dH_t, ``(T, B, H)``.
        recurrent: D_t, the gradient at ``H_{t-1} W_h``, ``(T, B, G * H)``.
        first: the hidden state before the first step, ``(B, H)``.
        after: hidden states after every step, ``(T, B, H)``.
    """

    cell: str
    reverse: bool
    hidden: Array
    recurrent: Array
    first: Array
    after: Array


@dataclass(frozen=True)
class ThroughTime:
    """The recurrences of a minibatch.

    Attributes:
        layers: by name, see `unrolled.kernels.taps.Trace`.
        cuts: of every piece of the sequence whether no gradient leaves it backwards.
    """

    layers: dict[str, TracedLayer] = field(default_factory=dict)
    cuts: tuple[bool, ...] = ()


class Traced(NamedTuple):
    """What a traced objective gives beside the loss.

    Attributes:
        auxiliary: what the trainer's objective gives beside it.
        seen: hidden states of every layer by name, ``(first, after)`` as in `TracedLayer`.
    """

    auxiliary: Any
    seen: dict[str, tuple[Array, Array]]


class Tracer:
    """Differentiates as a trainer does, and gives the gradients through time besides."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.differentiate = trainer.differentiable(self.objective)
        self._taps: dict[Any, tuple[Trace, dict[str, Array]]] = {}

    def objective(self, leaves: Any, batch: Any, state: Any, *context: Any) -> tuple[Any, Any]:
        """The trainer's objective as a function of parameters and taps."""
        parameters, taps = _split(leaves)
        with tracing(taps) as trace:
            loss, state = self.trainer.objective(parameters, batch, state, *context)
        seen = {name: (layer.first, layer.after) for name, layer in trace.layers.items()}
        seen = {name: self.trainer.backend.stop_gradient(each) for name, each in seen.items()}
        return loss, Traced(state, seen)

    def __call__(
        self, parameters: Any, batch: Any, state: Any, *context: Any
    ) -> tuple[Any, Any, ThroughTime]:
        """``(loss, state)``, the gradients of the parameters, and those through time."""
        first, taps = self.taps(parameters, batch, state, *context)
        leaves = OrderedDict([*parameters.items(), *((TAP + n, tap) for n, tap in taps.items())])
        (loss, (state_after, seen)), found = self.differentiate(leaves, batch, state, *context)
        gradients, of_taps = _split(found)
        # in the order of the parameters: sums over them must round as they always do
        gradients = OrderedDict((n, gradients[n]) for n in parameters if n in gradients)
        layers = {}
        for name, layer in first.layers.items():
            inner = [of_taps.get(f"{name}.{kind}") for kind in ("hidden", "recurrent")]
            if inner[0] is not None and inner[1] is not None:  # None: the loss does without it
                layers[name] = TracedLayer(layer.cell, layer.reverse, *inner, *seen[name])
        return (loss, state_after), gradients, ThroughTime(layers, tuple(first.cuts))

    def taps(
        self, parameters: Any, batch: Any, state: Any, *context: Any
    ) -> tuple[Trace, dict[str, Array]]:
        """A first look at such a minibatch, and zeros in the shapes that it told."""
        key = tuple(tuple(part.shape) for part in batch)
        if key not in self._taps:
            backend, model = self.trainer.backend, self.trainer.model
            # in evaluation, or dropout would draw from the framework's generator
            with (
                self.trainer.dry_running(),
                backend.evaluating(model),
                backend.without_gradients(),
                tracing() as trace,
            ):
                backend.dry_run(self.trainer.objective, parameters, batch, state, *context)
                one = backend.to_numpy(backend.xp.sum(next(iter(parameters.values()))))
            zeros = {name: np.zeros(shape, one.dtype) for name, shape in trace.shapes.items()}
            trace.layers = {n: _without_arrays(layer) for n, layer in trace.layers.items()}
            while len(self._taps) >= MOST_SHAPES:
                del self._taps[next(iter(self._taps))]
            self._taps[key] = trace, backend.initialize(zeros, self.trainer.device)
        return self._taps[key]


def _without_arrays(layer: Any) -> Any:
    return type(layer)(layer.cell, None, None, layer.reverse)


def _split(leaves: Any) -> tuple[Any, dict[str, Array]]:
    """The parameters, and the taps by their own names."""
    parameters = OrderedDict((n, x) for n, x in leaves.items() if not n.startswith(TAP))
    return parameters, {n[len(TAP) :]: x for n, x in leaves.items() if n.startswith(TAP)}
