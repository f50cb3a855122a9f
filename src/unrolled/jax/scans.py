"""Taps inside the loops of a JAX computation that was written without any.

A `jax.lax.scan` hides its inner values, but the computation is there to be read, as a jaxpr.
It is run again equation by equation, and where a scan carries a state, zeros are added to
the state of every step: arguments like any other, whose gradients are those at the states.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal

TAP = "unrolled tap "

INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
"""Calls that are run as if their equations stood in their place; where those are."""


def tap(h: Any, name: str) -> Any:
    """Name a state inside a scan, so that `watch` looks at it under this name.

    Without a watch it does nothing. A scan with taps is looked at where they are, others at
    every state that they carry.

    Args:
        h: the state of one step, as it goes on to the next: ``(B, H)``, or ``(H,)``.
        name: of the layer.

    Returns:
        ``h``, to go on with.

    Example:
        >>> import jax
        >>> def step(h, x):
        ...     h = tap(jax.numpy.tanh(x + 0.5 * h), "rnn")
        ...     return h, h
        >>> h, _ = jax.lax.scan(step, jax.numpy.zeros(2), jax.numpy.ones((3, 2)))
        >>> [round(value, 2) for value in h.tolist()]
        [0.89, 0.89]
    """
    return checkpoint_name(h, TAP + name)


@dataclass(frozen=True)
class Loop:
    """A scan that is looked at.

    Attributes:
        names: of the states.
        shapes: of them over all steps, ``(T, ...)``.
        kinds: their types.
        places: of each, the place among the carried ones; None for one with a tap.
        reverse: whether it runs from the end.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    kinds: tuple[Any, ...]
    places: tuple[int | None, ...]
    reverse: bool


def loops_of(jaxpr: Any) -> list[Loop]:
    """The scans of a computation, in the order in which they run."""
    loops: list[Loop] = []
    for equation in _equations(jaxpr):
        if equation.primitive.name == "scan":
            loops.append(_loop(equation, len(loops)))
    return loops


def _loop(equation: Any, number: int) -> Loop:
    params = equation.params
    body, length = params["jaxpr"].jaxpr, params["length"]
    found: list[tuple[str, Any, int | None]] = [
        (inner.params["name"].removeprefix(TAP), inner.outvars[0].aval, None)
        for inner in _equations(body)
        if _is_tap(inner)
    ]
    if not found:
        made = {id(var) for inner in body.eqns for var in inner.outvars}
        states = list(enumerate(body.outvars[: params["num_carry"]]))
        found = [
            (f"scan{number}.{place}" if len(states) > 1 else f"scan{number}", var.aval, place)
            for place, var in states
            if id(var) in made and var.aval.ndim and jnp.issubdtype(var.aval.dtype, jnp.floating)
        ]
    return Loop(
        tuple(name for name, _, _ in found),
        tuple((length, *aval.shape) for _, aval, _ in found),
        tuple(aval.dtype for _, aval, _ in found),
        tuple(place for _, _, place in found),
        params["reverse"],
    )


def _is_tap(equation: Any) -> bool:
    params = equation.params
    return equation.primitive.name == "name" and str(params["name"]).startswith(TAP)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in INLINED:
            inner = equation.params[INLINED[equation.primitive.name]]
            yield from _equations(getattr(inner, "jaxpr", inner))
        else:
            yield equation


def zeros(loops: Sequence[Loop]) -> list[list[Any]]:
    """The taps of all loops: zeros."""
    return [[jnp.zeros(*each) for each in zip(o.shapes, o.kinds, strict=True)] for o in loops]


def run(
    closed: Any, arguments: Sequence[Any], loops: Sequence[Loop], taps: Sequence[Any]
) -> tuple[list[Any], list[list[Any]]]:
    """Run a computation with taps in its loops.

    Args:
        closed: the jaxpr, closed.
        arguments: flat.
        loops: from `loops_of`.
        taps: of each loop its arrays.

    Returns:
        The results, flat; and of each loop the states of all steps.
    """
    walk = _Walk(closed.jaxpr, list(zip(loops, taps, strict=True)))
    return walk.run(closed.jaxpr, closed.consts, arguments, {}), walk.states


class _Walk:
    def __init__(self, jaxpr: Any, loops: list[tuple[Loop, Any]]) -> None:
        self.jaxpr = jaxpr
        self.loops = iter(loops)
        self.states: list[list[Any]] = []

    def run(self, jaxpr: Any, consts: Any, arguments: Any, added: dict[Any, Any]) -> list[Any]:
        """Evaluate; ``added`` holds what to add to variables as they are computed."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def read(var: Any) -> Any:
            return var.val if isinstance(var, Literal) else values[var]

        for equation in jaxpr.eqns:
            results = self.apply(equation, [read(var) for var in equation.invars], added)
            for var, value in zip(equation.outvars, results, strict=True):
                values[var] = value + added[var] if var in added else value
        return [read(var) for var in jaxpr.outvars]

    def apply(self, equation: Any, inputs: list[Any], added: dict[Any, Any]) -> list[Any]:
        """The results of one equation."""
        name, params = equation.primitive.name, equation.params
        if name in INLINED:
            inner = params[INLINED[name]]
            return self.run(
                getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs, added
            )
        if name == "scan" and not isinstance(added, _InBody):
            return self.scan(equation, inputs)
        if _is_tap(equation) and isinstance(added, _InBody):
            return [added.at_tap(inputs[0])]
        # JAX itself evaluates the rest: what a primitive takes changes with its versions
        known = {
            var: value
            for var, value in zip(equation.invars, inputs, strict=True)
            if not isinstance(var, Literal)
        }
        alone = self.jaxpr.replace(
            constvars=[], invars=list(known), outvars=equation.outvars, eqns=[equation]
        )
        return list(jax.core.eval_jaxpr(alone, (), *known.values()))

    def scan(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """A scan with taps, and its states besides its results."""
        loop, taps = next(self.loops)
        params, body = equation.params, equation.params["jaxpr"]
        num_consts, num_carry = params["num_consts"], params["num_carry"]
        consts, init = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]
        outvars = body.jaxpr.outvars

        def step(carry: Any, x: Any) -> Any:
            xs, tap_t = x
            added = _InBody(loop, tap_t)
            for place, z in zip(loop.places, tap_t, strict=True):
                if place is not None:
                    added[outvars[place]] = z
            results = self.run(body.jaxpr, body.consts, [*consts, *carry, *xs], added)
            carried = [results[place] for place in loop.places if place is not None]
            return results[:num_carry], (results[num_carry:], [*added.seen, *carried])

        carry, (ys, states) = jax.lax.scan(
            step,
            init,
            (inputs[num_consts + num_carry :], list(taps)),
            length=params["length"],
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        self.states.append(states)
        return [*carry, *ys]


class _InBody(dict[Any, Any]):
    """What is added inside a loop's body; taps come in the order in which they were found."""

    def __init__(self, loop: Loop, taps: Any) -> None:
        super().__init__()
        self.waiting = iter(taps)
        self.seen: list[Any] = []

    def at_tap(self, h: Any) -> Any:
        """The state with its tap."""
        h = h + next(self.waiting)
        self.seen.append(h)
        return h
