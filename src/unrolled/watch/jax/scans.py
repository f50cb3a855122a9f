"""Add zeros to the carried states of `jax.lax.scan` in a jaxpr, to differentiate by them.

A `jax.lax.scan` hides its inner values, but the computation is there to be read, as a jaxpr.
It is run again equation by equation, and where a scan carries a state, zeros are added to
the state of every step: arguments like any other, whose gradients are those at the states.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal

from unrolled.telemetry.build_records import numbered

TAP = "unrolled tap "

REMATS = ("remat2", "checkpoint")
"""What `jax.checkpoint` is called."""

INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    **dict.fromkeys(REMATS, "jaxpr"),
}
"""Calls that are run as if their equations stood in their place; where those are."""

Path = tuple[int, ...]
"""Numbers of equations, each of a call inside the one before."""


def tap(h: Any, name: str) -> Any:
    """Name a state inside a scan, so that `watch` looks at it under this name.

    Without a watch it does nothing. A scan with taps is looked at where they are, others at
    every state that they carry; the second scan of the same name is ``name#2``. In a loop in
    Python, too, taps of one name and shape are the steps of one layer.

    Args:
        h: the state of one step, as it goes on to the next: ``(B, H)``, ``(B, ...)`` or ``(H,)``.
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
class State:
    """A state that is looked at."""

    name: str  # of its layer
    shape: tuple[int, ...]  # over all steps, (T, ...)
    kind: Any
    place: int | None = None  # among the carried ones; None for one with a tap
    source: tuple[Path, Any] | None = None  # where in the body it is computed; None likewise


@dataclass(frozen=True)
class Loop:
    """A scan that is looked at, or the taps outside of scans."""

    states: list[State]
    reverse: bool = False  # whether it runs from the end
    steps: Sequence[tuple[int, int]] = ()  # of every tap outside of scans its state and its step


def loops_of(jaxpr: Any) -> list[Loop]:
    """The scans of a computation, in the order in which they run; the last: taps beside them."""
    equations = list(_equations(jaxpr))
    scans = [equation for equation in equations if equation.primitive.name == "scan"]
    loops = [_loop(equation, number) for number, equation in enumerate(scans)]
    loops.append(_written_out([equation for equation in equations if _is_tap(equation)]))
    names = iter(numbered(state.name for loop in loops for state in loop.states))
    return [
        replace(loop, states=[replace(state, name=next(names)) for state in loop.states])
        for loop in loops
    ]


def _written_out(taps: Sequence[Any]) -> Loop:
    """Loops in Python, of which nothing is left but their steps one after another."""
    layers: dict[tuple[str, Any, Any], int] = {}  # of each how many steps
    steps = []
    for equation in taps:
        aval = equation.outvars[0].aval
        key = (_tap_name(equation), aval.shape, aval.dtype)
        step = layers.get(key, 0)
        layers[key] = step + 1
        steps.append((list(layers).index(key), step))
    states = [State(name, (T, *shape), kind) for (name, shape, kind), T in layers.items()]
    return Loop(states, steps=steps)


def _loop(equation: Any, number: int) -> Loop:
    params = equation.params
    body, length = params["jaxpr"].jaxpr, params["length"]
    taps = [inner for inner in _equations(body) if _is_tap(inner)]
    named: list[tuple[Any, ...]] = [(_tap_name(tap), tap.outvars[0].aval) for tap in taps]
    if not named:
        states = list(enumerate(body.outvars[: params["num_carry"]]))
        named = [
            (f"scan{number}.{place}" if len(states) > 1 else f"scan{number}", var.aval, place, at)
            for place, var in states
            if (at := _source(body, var)) is not None
            and var.aval.ndim
            and jnp.issubdtype(var.aval.dtype, jnp.inexact)
        ]
    found = [
        State(name, (length, *aval.shape), aval.dtype, *where)
        for name, aval, *where in named
        if length and aval.size
    ]
    return Loop(found, params["reverse"])


def _source(jaxpr: Any, var: Any) -> tuple[Path, Any] | None:
    """Where a variable is computed; None if it is only handed through.

    All that depends on a state has to see its tap: a call that returns the state twice, or
    something made of it, must have the tap inside.
    """
    for number, equation in enumerate(jaxpr.eqns):
        if not any(var is out for out in equation.outvars):
            continue
        inner = _inner(equation)
        if inner is None:
            return (), var
        place = next(i for i, out in enumerate(equation.outvars) if out is var)
        end = inner.outvars[place]
        given = next((i for i, each in enumerate(inner.invars) if each is end), None)
        if given is not None:
            return _source(jaxpr, equation.invars[given])
        found = _source(inner, end)
        return None if found is None else ((number, *found[0]), found[1])
    return None


def _inner(equation: Any) -> Any:
    """The computation inside a call that is run in its place; None for other equations."""
    name, params = equation.primitive.name, equation.params
    # a checkpoint that was differentiated already is part of somebody's gradient
    if name not in INLINED or params.get("differentiated"):
        return None
    inner = params[INLINED[name]]
    return getattr(inner, "jaxpr", inner)


def unseen(jaxpr: Any) -> dict[str, str]:
    """The scans and taps that are left as they are, as notes."""
    notes: dict[str, str] = {}
    number = 0
    for equation in _equations(jaxpr):
        name, looked_at = equation.primitive.name, [equation]
        if name == "scan":
            name, number = f"scan{number}", number + 1
            looked_at = list(_equations(equation.params["jaxpr"].jaxpr))
        if any(_has_states(part) for part in _parts(equation)):
            notes[name] = "scans inside it are not looked into"
        for each in looked_at:
            for part in _parts(each):
                for label in _taps(part):
                    notes[label] = f"not seen: this tap is inside a {each.primitive.name}"
    return notes


def _has_states(jaxpr: Any) -> bool:
    return any(
        (equation.primitive.name == "scan" and _loop(equation, 0).states)
        or any(_has_states(part) for part in _parts(equation))
        for equation in jaxpr.eqns
    )


def _parts(equation: Any) -> Iterator[Any]:
    """The computations inside of an equation, whatever it is."""
    for value in equation.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(each, "jaxpr", each)
            if hasattr(inner, "eqns"):
                yield inner


def _is_tap(equation: Any) -> bool:
    params = equation.params
    return equation.primitive.name == "name" and str(params["name"]).startswith(TAP)


def _taps(jaxpr: Any) -> Iterator[str]:
    """Names of the taps in a computation, at whatever depth."""
    for equation in jaxpr.eqns:
        if _is_tap(equation):
            yield _tap_name(equation)
        for part in _parts(equation):
            yield from _taps(part)


def _tap_name(equation: Any) -> str:
    return str(equation.params["name"]).removeprefix(TAP)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        inner = _inner(equation)
        if inner is None:
            yield equation
        else:
            yield from _equations(inner)


def zeros(loops: Sequence[Loop]) -> list[list[Any]]:
    """The taps of all loops: zeros."""
    return [[jnp.zeros(state.shape, state.kind) for state in loop.states] for loop in loops]


def run(
    closed: Any, arguments: Sequence[Any], loops: Sequence[Loop], taps: Sequence[Any]
) -> tuple[list[Any], list[list[Any]]]:
    """Run a computation with taps in its loops."""
    *scans, (beside, zeros) = zip(loops, taps, strict=True)
    walk = _Walk(closed.jaxpr, scans)
    added = _Taps(zeros[layer][step] for layer, step in beside.steps)
    results = walk.run(closed.jaxpr, closed.consts, arguments, added)
    states: list[list[Any]] = [[] for _ in beside.states]
    for (layer, _), h in zip(beside.steps, added.seen, strict=True):
        states[layer].append(h)
    return results, [*walk.states, list(map(jnp.stack, states))]


class _Walk:
    def __init__(self, jaxpr: Any, loops: list[tuple[Loop, Any]]) -> None:
        self.jaxpr = jaxpr
        self.loops = iter(loops)
        self.states: list[list[Any]] = []

    def run(
        self, jaxpr: Any, consts: Any, arguments: Any, added: "_Taps", path: Path = ()
    ) -> list[Any]:
        """Evaluate; ``added`` holds what to add to variables as they are computed."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def read(var: Any) -> Any:
            return var.val if isinstance(var, Literal) else values[var]

        for number, equation in enumerate(jaxpr.eqns):
            inputs = [read(var) for var in equation.invars]
            results = self.apply(equation, inputs, added, (*path, number))
            for var, value in zip(equation.outvars, results, strict=True):
                values[var] = value + added[path, var] if (path, var) in added else value
        return [read(var) for var in jaxpr.outvars]

    def apply(self, equation: Any, inputs: list[Any], added: "_Taps", path: Path) -> list[Any]:
        """The results of one equation."""
        name, params = equation.primitive.name, equation.params
        inner = _inner(equation)
        if inner is not None:
            consts = getattr(params[INLINED[name]], "consts", ())
            call = partial(self.run, inner, consts, added=added, path=path)
            return self.again(call, inputs, added, params) if name in REMATS else call(inputs)
        if name == "scan" and not added.in_body:
            return self.scan(equation, inputs)
        if _is_tap(equation):
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

    def again(
        self, call: Callable[..., Any], inputs: list[Any], added: "_Taps", params: Any
    ) -> list[Any]:
        """A call under `jax.checkpoint`; what was seen inside comes out as its results."""
        seen = added.seen

        def inside(*inputs: Any) -> Any:
            before = len(self.states), len(seen)
            results = call(inputs)
            found = self.states[before[0] :], seen[before[1] :]
            del self.states[before[0] :], seen[before[1] :]
            return results, found

        how = {name: params[name] for name in ("prevent_cse", "policy")}
        results, (states, taps) = jax.checkpoint(inside, **how)(*inputs)
        self.states += states
        seen += taps
        return list(results)

    def scan(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """A scan with taps, and its states besides its results."""
        loop, taps = next(self.loops)
        params, body = equation.params, equation.params["jaxpr"]
        num_consts, num_carry = params["num_consts"], params["num_carry"]
        consts, init = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]

        def step(carry: Any, x: Any) -> Any:
            xs, tap_t = x
            added = _Taps(tap_t, in_body=True)
            for state, z in zip(loop.states, tap_t, strict=True):
                if (source := state.source) is not None:
                    # one result may be carried twice: both taps are then that state's
                    added[source] = added[source] + z if source in added else z
            results = self.run(body.jaxpr, body.consts, [*consts, *carry, *xs], added)
            carried = [results[s.place] for s in loop.states if s.place is not None]
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


class _Taps(dict[Any, Any]):
    """Zeros to add to variables; those for taps come in the order in which these were found."""

    def __init__(self, taps: Iterable[Any], in_body: bool = False) -> None:
        super().__init__()
        self.waiting, self.in_body = iter(taps), in_body  # of a scan
        self.seen: list[Any] = []

    def at_tap(self, h: Any) -> Any:
        """The state with its tap."""
        h = h + next(self.waiting)
        self.seen.append(h)
        return h
