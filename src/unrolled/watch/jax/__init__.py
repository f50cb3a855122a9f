"""`watch` for JAX: `jax.value_and_grad` that also gives gradients through time, compiled or not."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unrolled.backends import jax as backend
from unrolled.backends.jax import norm
from unrolled.kernels.taps import tracing
from unrolled.telemetry import through_time
from unrolled.telemetry.build_records import (
    layer_record,
    numbered,
    parameter_record,
    watched_record,
)
from unrolled.telemetry.records import TelemetryRecord
from unrolled.watch.jax import scans
from unrolled.watch.jax.scans import tap
from unrolled.watch.record_store import KEEP, RecordStore, Sink

__all__ = ["Seen", "Watch", "tap", "watch"]

xp = backend.xp


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("loss", "norms", "finite", "layers"),
    meta_fields=("kinds",),
)
@dataclass(frozen=True)
class Seen:
    """What was seen of a step: arrays that go in and out of compiled functions.

    Attributes:
        loss: a scalar.
        norms: by kind (``gradient``, ``weight``, and after `after` ``clipped`` and
            ``update``) and parameter.
        finite: by kind (``gradient``, ``weight``) and parameter, whether all of it is: of
            very large numbers the norm may be infinite all the same.
        layers: numbers by layer, see `through_time.layer_numbers`.
        kinds: of each layer its name, its cell (None if not known), and whether it runs backwards.
    """

    loss: Any
    norms: dict[str, dict[str, Any]]
    finite: dict[str, dict[str, Any]]
    layers: dict[str, Any]
    kinds: tuple[tuple[str, str | None, bool], ...] = field(default=())

    def after(self, clipped: Any = None, updates: Any = None) -> "Seen":
        """The same with what came of the gradients; both as nested as the parameters.

        Args:
            clipped: the gradients after clipping.
            updates: what the optimizer adds to the parameters.
        """
        more = {"clipped": clipped, "update": updates}
        known = {kind: norms_by_name(tree) for kind, tree in more.items() if tree is not None}
        return replace(self, norms={**self.norms, **known})


class Watch(RecordStore):
    """A function like ``jax.value_and_grad(loss)`` that also sees gradients through time.

    ``watched(params, ...)`` gives ``(loss, grads, seen)``; ``seen`` goes through `jax.jit`
    and to ``watched.keep(seen)``, which makes a record of it. What every `jax.lax.scan`
    carries is looked at (also inside Flax's ``nn.RNN``), and of the project's own cells
    the parts of the recurrent weights' gradient too; see `tap` for names of your own.
    On steps that shall not be recorded use ``jax.value_and_grad(loss)``.

    Args:
        loss: ``(params, *arguments) -> scalar``.
        has_aux: it gives ``(scalar, anything)``; then so does the first result.
        sink, out, keep, overwrite: where records go, see `unrolled.watch.record_store.RecordStore`.
        clips_at: the threshold that you clip at, if you want to be told that it never acts.

    Raises:
        SettingError: ``keep`` is below 1.
        RunError: ``out`` cannot be made, or what is to be replaced is no run.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> def loss(W, x):
        ...     h, _ = jax.lax.scan(lambda h, x: (jnp.tanh(x + h @ W), None), 0 * x[0], x)
        ...     return jnp.sum(h**2)
        >>> watched = watch(loss)
        >>> clip, optimizer = optax.clip_by_global_norm(0.1), optax.sgd(0.1)
        >>> @jax.jit
        ... def step(W, x):
        ...     value, grads, seen = watched(W, x)
        ...     clipped, _ = clip.update(grads, clip.init(W))
        ...     updates, _ = optimizer.update(clipped, optimizer.init(W))
        ...     return optax.apply_updates(W, updates), seen.after(clipped, updates)
        >>> W, seen = step(0.5 * jnp.eye(3), jnp.ones((7, 2, 3)))
        >>> record = watched.keep(seen)
        >>> round(record.clipped_norm, 3), len(record.layers["scan0"].hidden_gradient_mean)
        (0.1, 7)
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        has_aux: bool = False,
        sink: Sink | None = None,
        out: str | Path | None = None,
        keep: int = KEEP,
        clips_at: float | None = None,
        overwrite: bool = False,
    ) -> None:
        settings = {"loss": getattr(loss, "__name__", type(loss).__name__), "clips_at": clips_at}
        super().__init__(sink, out, keep, "jax", backend, settings, overwrite)
        self.loss, self.has_aux, self.clips_at = loss, has_aux, clips_at
        self.steps = 0

    def __call__(self, params: Any, *arguments: Any, **named: Any) -> tuple[Any, Any, Seen]:
        """``(loss, grads, seen)``, or ``((loss, aux), grads, seen)``."""

        # as in jax.value_and_grad, only the parameters are traced: whatever else the loss is
        # given stays what it is, and so do results beside it that are no arrays
        def loss(params: Any) -> Any:
            result = self.loss(params, *arguments, **named)
            return result if self.has_aux else (result, None)

        with tracing() as first:
            jax.eval_shape(lambda params: loss(params)[0], params)
        own = {name: jnp.zeros(shape, _kind(params)) for name, shape in first.shapes.items()}
        other: list[Any] = []

        def traced(params: Any, own: Any) -> Any:
            with tracing(own) as trace:
                value, aux = loss(params)
            leaves, tree = jax.tree.flatten(aux)
            other[:] = [tree, [None if _is_array(leaf) else leaf for leaf in leaves]]
            arrays = [leaf if _is_array(leaf) else None for leaf in leaves]
            return value, arrays, {n: (o.first, o.after) for n, o in trace.layers.items()}

        closed, shape = jax.make_jaxpr(traced, return_shape=True)(params, own)
        loops = scans.loops_of(closed.jaxpr)
        self.notes |= scans.unseen(closed.jaxpr)
        results = jax.tree.structure(shape)

        def tapped(params: Any, own: Any, taps: Any) -> Any:
            values, states = scans.run(closed, jax.tree.leaves((params, own)), loops, taps)
            value, arrays, layers = jax.tree.unflatten(results, values)
            return value, (arrays, layers, states)

        differentiate = jax.value_and_grad(tapped, argnums=(0, 1, 2), has_aux=True)
        found = differentiate(params, own, scans.zeros(loops))
        (value, (arrays, layers, states)), (grads, of_own, of_taps) = found
        pairs = zip(arrays, other[1], strict=True)
        aux = jax.tree.unflatten(other[0], [b if a is None else a for a, b in pairs])
        numbers: dict[str, Any] = {}
        kinds: list[tuple[str, str | None, bool]] = []
        for name, layer in first.layers.items():
            first, after = layers[name]
            inner = of_own[f"{name}.hidden"], of_own[f"{name}.recurrent"]
            numbers[name] = through_time.layer_numbers(xp, layer.cell, *inner, first, after)
            kinds.append((name, layer.cell, layer.reverse))
        for loop, hidden, after in zip(loops, of_taps, states, strict=True):
            for state, dH, H in zip(loop.states, hidden, after, strict=True):
                numbers[state.name] = _state_numbers(dH, H, loop.reverse)
                kinds.append((state.name, None, loop.reverse))
        both = {"gradient": grads, "weight": params}
        norms = {kind: norms_by_name(tree) for kind, tree in both.items()}
        finite = {
            kind: _by_name(lambda x: jnp.all(jnp.isfinite(x)), tree) for kind, tree in both.items()
        }
        seen = Seen(value, norms, finite, numbers, tuple(kinds))
        return ((value, aux) if self.has_aux else value), grads, seen

    def keep(
        self,
        seen: Seen,
        step: int | None = None,
        epoch: int | None = None,
        learning_rate: float | None = None,
    ) -> TelemetryRecord:
        """Make a record of what was seen, and keep it.

        Args:
            seen: from a call, or from `Seen.after`.
            step: from 1; None counts the calls of this.
            epoch: from 1.
            learning_rate: of this step, as of a schedule ``schedule(count)``.
        """
        self.steps = self.steps + 1 if step is None else step
        seen = jax.device_get(seen)
        norms = {k: {n: float(x) for n, x in v.items()} for k, v in seen.norms.items()}
        none: dict[str, float] = {}
        parameters = {}
        for name, weight in norms["weight"].items():
            parameters[name] = parameter_record(
                weight,
                norms["gradient"].get(name),
                norms.get("clipped", none).get(name),
                norms.get("update", none).get(name),
                finite=all(bool(of_kind.get(name, True)) for of_kind in seen.finite.values()),
            )
        record = watched_record(
            step=self.steps,
            epoch=epoch,
            loss=float(seen.loss),
            parameters=parameters,
            layers={
                name: layer_record([np.asarray(seen.layers[name]).tolist()], (), reverse, cell)
                for name, cell, reverse in seen.kinds
            },
            clips_at=self.clips_at,
            first_not_finite=_first(seen),
            rates=[] if learning_rate is None else [float(learning_rate)],
        )
        self.add(record)
        return record


watch = Watch


def norms_by_name(tree: Any) -> dict[str, Any]:
    """The L2 norm of every array of a tree, by its path."""
    return _by_name(norm, tree)


def _by_name(function: Callable[[Any], Any], tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = numbered(_name(path) for path, _ in leaves)
    return {name: function(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}


def _name(path: Any) -> str:
    parts = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in path)
    return ".".join(map(str, parts)) or "params"


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def _kind(params: Any) -> Any:
    """The real type of the parameters; some may be complex."""
    return jnp.finfo(jnp.result_type(*jax.tree.leaves(params))).dtype


def _state_numbers(dH: Any, H: Any, reverse: bool) -> Any:
    """Norms and saturation of states ``(T, ..., H)``, in the order in which they are computed."""
    T, B = H.shape[0], H.shape[1] if H.ndim > 2 else 1
    dH, H = (_real(x.reshape(T, B, -1)) for x in (dH, H))  # (T, B, H)
    norms = through_time.hidden_gradient_norms(xp, dH[::-1] if reverse else dH)
    share = through_time.saturated_share(xp, H, through_time.UNKNOWN)
    return jnp.concatenate([xp.mean(norms, axis=1), xp.amax(norms, axis=1), share[None]])


def _real(x: Any) -> Any:
    """Real and imaginary parts of complex numbers side by side: as long, as a vector."""
    return jnp.concatenate([x.real, x.imag], -1) if jnp.iscomplexobj(x) else x


def _first(seen: Seen) -> str | None:
    in_order = [
        *((f"the weight {name}", finite) for name, finite in seen.finite["weight"].items()),
        ("the loss", np.isfinite(seen.loss)),
        *((f"the gradient of {name}", known) for name, known in seen.finite["gradient"].items()),
    ]
    return next((name for name, finite in in_order if not finite), None)
