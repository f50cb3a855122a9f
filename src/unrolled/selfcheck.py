"""Compare a framework with the golden file: losses, gradients, parameters.

The expected numbers (``data/golden.json``) come from a program without any framework, in which
every gradient is written out by hand in float64: ``tests/parity/reference.py``. ``unrolled doctor
--check`` runs ``python -m unrolled.selfcheck FRAMEWORK``, which prints `report`.
"""

import json
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.backends import Array, Backend
from unrolled.frameworks import load
from unrolled.functional.linear import affine
from unrolled.functional.losses import cross_entropy, squared_loss
from unrolled.functional.recurrent import State
from unrolled.functional.updates import clip_by_global_norm, global_norm, sgd
from unrolled.kernels import engines
from unrolled.models.language_model import RecurrentNetwork

Values = npt.NDArray[Any]
Case = dict[str, Any]

CHECKED = ("rnn", "gru", "lstm")
"""The cases that `compare` runs; the tests run them all."""

ROUNDING = 1e-4
"""Differences up to here are float32's rounding, added up over a few steps."""


def golden() -> dict[str, Case]:
    """All cases by name: what goes in, and under ``"expected"`` what must come out."""
    text = resources.files("unrolled.data").joinpath("golden.json").read_text(encoding="utf-8")
    cases: dict[str, Case] = json.loads(text)
    return cases


@dataclass(frozen=True)
class Outcome:
    """What came out of a case: the same names as in the golden file."""

    losses: Sequence[float]
    gradient_norms: Sequence[float]
    clipped_norms: Sequence[float]
    first_gradients: Mapping[str, Values]
    parameters: Mapping[str, Values]
    state: Sequence[Values]

    def differences(self, expected: Mapping[str, Any]) -> dict[str, float]:
        """The `difference` of every number and array, by its name; infinite for a missing one."""
        found: dict[str, float] = {}
        for name in ("losses", "gradient_norms", "clipped_norms", "state"):
            pairs = zip(getattr(self, name), expected[name], strict=True)
            found |= {f"{name}[{i}]": difference(*pair) for i, pair in enumerate(pairs)}
        for name in ("first_gradients", "parameters"):
            arrays = getattr(self, name)
            for key, want in expected[name].items():
                got = arrays.get(key)
                found[f"{name}[{key}]"] = math.inf if got is None else difference(got, want)
        return found


def initial_parameters(case: Case) -> dict[str, Values]:
    """The parameters that a case starts from."""
    return {name: np.array(value, np.float32) for name, value in case["parameters"].items()}


def minibatches(case: Case) -> Iterable[tuple[Values, Values]]:
    """Inputs and targets of every step."""
    dtype = np.int64 if "model" in case else np.float32
    for X, Y in case["minibatches"]:
        yield np.array(X, dtype), np.array(Y, dtype)


def run(backend: Backend, case: Case, engine: str = "auto") -> Outcome:
    """Train through the steps of a case: forward, backward, clip, step."""
    objective, state = _objective(backend, case, engine)
    differentiate = backend.value_and_grad(objective)

    def step(parameters: Mapping[str, Array], X: Array, Y: Array, state: State) -> Any:
        (loss, state), gradients = differentiate(parameters, X, Y, state)
        with backend.without_gradients():
            clipped, norm = clip_by_global_norm(backend.xp, gradients, case["theta"])
            stepped = {
                name: sgd(p, clipped[name], case["lr"]) if name in clipped else p
                for name, p in parameters.items()
            }
            numbers = loss, norm, global_norm(backend.xp, clipped.values())
        return numbers, gradients, stepped, backend.stop_gradient(state)

    parameters = backend.initialize(initial_parameters(case))
    step = backend.compile(step)  # as a whole: compiling is what takes the time here
    of_steps: list[list[float]] = []
    first: dict[str, Values] = {}
    for X, Y in minibatches(case):
        numbers, gradients, stepped, state = step(
            parameters, backend.asarray(X), backend.asarray(Y), state
        )
        of_steps.append([float(number) for number in numbers])
        first = first or {name: backend.to_numpy(g).copy() for name, g in gradients.items()}
        parameters = backend.assign(parameters, stepped)
    losses, norms, clipped_norms = zip(*of_steps, strict=True)
    return Outcome(
        losses,
        norms,
        clipped_norms,
        first,
        {name: backend.to_numpy(p) for name, p in parameters.items()},
        [backend.to_numpy(part) for part in state],
    )


def _objective(backend: Backend, case: Case, engine: str) -> tuple[Any, State]:
    """The loss of a minibatch as a function of the parameters, and the first hidden state."""
    xp = backend.xp

    def linear_regression(p: Mapping[str, Array], X: Array, y: Array, state: Any) -> Any:
        return squared_loss(xp, affine(xp, X, p["w"], p["b"]), y), state

    if "model" not in case:
        return linear_regression, ()
    model, batch_size = case["model"], len(case["minibatches"][0][0])
    network = RecurrentNetwork(backend, model["cell"], model["num_layers"], engine)

    def language_model(p: Mapping[str, Array], X: Array, Y: Array, state: Any) -> Any:
        logits, state = network.forward(xp.transpose(X), state, p)  # (T * B, V)
        targets = xp.reshape(xp.transpose(Y), (-1,))  # (T * B,)
        return cross_entropy(xp, logits, targets), state

    return language_model, network.begin_state(batch_size, model["num_hiddens"])


def difference(got: Any, expected: Any) -> float:
    """The largest error of an array's entries, relative to its largest entry.

    Infinite where the shapes differ, NaN where something is NaN.
    """
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        return math.inf
    if not expected.size:
        return 0.0
    return float(np.max(np.abs(got - expected)) / np.max(np.abs(expected)))


def compare(framework: str) -> float:
    """The largest relative difference between a framework and the reference.

    Three clipped training steps of an RNN, a GRU and an LSTM: losses, gradients, their norms
    before and after clipping, the state carried over, and the parameters at the end, with every
    engine that there is. About 1e-6 where all is well, NaN or infinity where a result is not even
    finite, or of another shape.
    """
    backend, cases = load(framework).backend, golden()
    with backend.full_precision():
        found = [
            run(backend, cases[name], engine).differences(cases[name]["expected"]).values()
            for engine in engines(framework)
            for name in CHECKED
        ]
    # NumPy's max, not Python's: one NaN makes the whole NaN
    return float(np.max([difference for of_case in found for difference in of_case]))


def report(framework: str) -> Iterator[str]:
    """Lines for a person: devices, how far the numbers are from the reference, what fails."""
    try:
        facts = load(framework).backend.describe()
    except Exception as error:  # a broken installation is what the doctor is asked about
        yield f"installed, but does not load: {type(error).__name__}: {error}"
        return
    yield (
        f"devices: {', '.join(facts['devices'])}, threads: {facts['threads']}, "
        f"NumPy {facts['numpy']}"
    )
    try:
        difference = compare(framework)
    except Exception as error:  # as above
        yield f"cannot train: {type(error).__name__}: {error}"
    else:
        line = f"largest difference from the reference: {difference:.0e}"
        if not difference <= ROUNDING:
            line += f". WRONG: float32 explains {ROUNDING:.0e} at most. Install the framework anew"
        yield line


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # TensorFlow's, of many small programs compiled in a row
    for line in report(sys.argv[1]):
        print(line, flush=True)
