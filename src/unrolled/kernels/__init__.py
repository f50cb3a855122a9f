"""`recur` runs a cell over a sequence by the engine asked for: formula, native, cuDNN, Triton.

- ``"reference"``: the formula in `unrolled.functional.recurrent` under the framework's
  automatic differentiation;
- ``"fast"``: the gradients written out (`unrolled.functional.bptt`), on CPUs by the native
  kernels, on GPUs in PyTorch by cuDNN's layers, else in the framework's operations;
- ``"triton"``: the same by Triton kernels, for PyTorch on a GPU of NVIDIA's. This version of them
  has run in Triton's interpreter only, never on a GPU;
- ``"auto"``: fast where it gains something, else reference.

All give the same numbers, up to rounding. Where gradients through time are recorded
(`unrolled.telemetry`), those written out are taken whatever the name: they are what is recorded.
"""

import importlib
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from unrolled import native
from unrolled.backends.namespace import Array
from unrolled.errors import SettingError, did_you_mean
from unrolled.functional.bptt import GATES
from unrolled.functional.linear import affine
from unrolled.functional.recurrent import Cell, State
from unrolled.kernels import taps as traces

ENGINES = ("auto", "reference", "fast", "triton")

WRITTEN_OUT = ("torch", "jax", "tensorflow", "mxnet")
"""Frameworks with a ``kernels/<framework>.py``."""

PRECISIONS = ("float32", "bfloat16")

PROJECTS = ("torch",)
"""Frameworks whose fast engine has an output layer of its own."""

FASTER = ("torch", "mxnet")
"""Frameworks for which ``"auto"`` takes the fast engine."""

FASTER_IF_COMPILED = ("jax", "tensorflow")
"""Others for which it does where the native kernels compute it and gain something."""


def check_engine(engine: str, framework: str = "torch", gpu: bool = True) -> str:
    """Return the name of an engine if it can run there."""
    if engine not in ENGINES:
        raise SettingError(f"unknown engine '{engine}': {did_you_mean(engine, ENGINES)}")
    gpu = gpu or os.environ.get("TRITON_INTERPRET") == "1"  # then Triton computes on the CPU
    if engine == "triton" and not (framework == "torch" and gpu):
        raise SettingError(
            f"engine=triton needs PyTorch and a GPU of NVIDIA's; this is {framework} on "
            f"{'a GPU' if gpu else 'the CPU'}. Take engine=auto"
        )
    return engine


def engines(framework: str) -> tuple[str, ...]:
    """Return the engines that a framework has on every machine.

    Example:
        >>> engines("torch")
        ('reference', 'fast')
    """
    return ("reference", "fast") if framework in WRITTEN_OUT else ("reference",)


def explain() -> str:
    """Which engine carries recurrences here, and why, in a sentence.

    Example:
        >>> explain().partition(" ")[0] in ("native", "written-out")
        True
    """
    usable, reason = native.available()
    if usable:
        return f"native kernels on CPUs for PyTorch, JAX, TensorFlow and MXNet ({reason})"
    return f"written-out gradients in the frameworks' own operations (native kernels {reason})"


def chosen(framework: str, engine: str, gpu: bool = False) -> str:
    """Describe the engine that a name means here, in words for the record of a run.

    Example:
        >>> chosen("torch", "reference")
        'reference'
    """
    if engine == "triton":
        return "Triton kernels"
    if gpu and framework == "torch" and engine != "reference":
        return "cuDNN's layers; PyTorch's operations where gradients through time are recorded"
    usable, reason = (False, "on a GPU") if gpu else native.available()
    fast = "fast, native kernels" if usable else f"fast, without native kernels ({reason})"
    if engine == "auto" and framework in FASTER_IF_COMPILED:
        return f"{fast} where they gain, else reference" if usable else "reference"
    return fast if engine == "fast" or (engine == "auto" and framework in FASTER) else "reference"


def recur(
    backend: Any,
    cell: Cell,
    X: Array,
    state: State,
    weights: Sequence[Array],
    engine: str = "auto",
    reverse: bool = False,
    precision: str = "float32",
) -> tuple[Array, State]:
    """Carry a cell over all steps of a sequence.

    Args:
        backend: whose arrays they are.
        cell: from `unrolled.functional.recurrent.CELLS`.
        X: inputs ``(T, B, D)``, or ids ``(T, B)``.
        state: arrays ``(B, H)``.
        weights: in the order of ``cell.weights``.
        engine: ``"auto"``, ``"reference"``, ``"fast"`` or ``"triton"``.
        reverse: read the sequence from its end; the outputs keep the order of ``X``.

        precision: ``"float32"`` computes in the arrays' own type; ``"bfloat16"`` rounds the
            factors of the products to it and sums in float32 (PyTorch on CPUs, fast engine).

    Returns:
        Hidden states ``(T, B, H)`` and the last state.

    Raises:
        SettingError: no such engine, or it has no such precision here.
    """
    if engine not in ("auto", "reference", "fast"):
        check_engine(engine, backend.name)
    if precision != "float32":
        _check_precision(precision, backend.name, engine)
    trace, xp = traces.running.get(), backend.xp
    X = xp.flip(X) if reverse else X
    # a formula with other weights than the cell's own, the original GRU for one, has no
    # derivative written out
    known = len(weights) == len(cell.weights) and backend.name in WRITTEN_OUT
    options = {"precision": precision, "engine": engine} if backend.name == "torch" else {}
    if trace is not None and known:
        name, taps = trace.next_taps(reverse)
        outputs, last = _fast(backend.name).recur(cell.engine, X, state, weights, taps, **options)
        layer = traces.Layer(cell.engine, state[0], outputs, reverse)
        trace.note(name, layer, len(GATES[cell.engine]))
    elif known and _takes_fast(backend.name, engine, X, state, weights):
        outputs, last = _fast(backend.name).recur(cell.engine, X, state, weights, **options)
    else:
        outputs, last = cell.forward(xp, X, state, *weights)
    return (xp.flip(outputs) if reverse else outputs), last


def project(backend: Any, X: Array, W: Array, b: Array, engine: str = "auto") -> Array:
    """The output layer, ``X W + b``, by the engine that carried the cell."""
    if engine not in ENGINES:
        check_engine(engine)
    if backend.name in PROJECTS and _takes_fast(backend.name, engine):
        return _fast(backend.name).affine(X, W, b)
    return affine(backend.xp, X, W, b)


@cache  # also: TensorFlow would try to compile the import machinery, and complain
def _fast(framework: str) -> Any:
    return importlib.import_module(f"unrolled.kernels.{framework}")


def _check_precision(precision: str, framework: str, engine: str) -> None:
    if precision not in PRECISIONS:
        raise SettingError(
            f"unknown precision '{precision}': {did_you_mean(precision, PRECISIONS)}"
        )
    usable, reason = native.available()
    if framework != "torch" or engine in ("reference", "triton") or not usable:
        raise SettingError(
            f"precision={precision} needs the native kernels (here: {reason}) under PyTorch with "
            f"engine=auto or fast; this is {framework} with engine={engine}. Take precision=float32"
        )


def _takes_fast(framework: str, engine: str, *recurrence: Any) -> bool:
    if engine == "auto" and framework in FASTER_IF_COMPILED:
        gains: bool = _fast(framework).gains(*recurrence)
        return gains
    return engine in ("fast", "triton") or (engine == "auto" and framework in FASTER)
