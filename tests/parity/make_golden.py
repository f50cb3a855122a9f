"""Write the golden file: ``python tests/parity/make_golden.py``.

Inputs and initial parameters are drawn here as multiples of 1/64, which float32 and few
decimals hold exactly; the results are computed by ``reference.py`` and rounded to nine
digits. A drawn case is kept if everything that it shall prove can be seen in it:

- one step is clipped and another is not, both by far;
- the greedy continuation has several different tokens, none chosen narrowly.
"""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import reference

GOLDEN = Path(__file__).parents[2] / "src" / "unrolled" / "data" / "golden.json"

V, H, B, T, STEPS = 11, 7, 3, 5, 3

Case = dict[str, Any]


def drawn(rng: np.random.Generator, *shape: int) -> reference.Array:
    """From N(0, 1/4), rounded to multiples of 1/64.

    Large enough to bend every tanh; much larger, and an RNN multiplies float32's rounding.
    """
    return np.round(rng.normal(0, 0.5, shape) * 64) / 64


def linear_regression_cases() -> Iterator[Case]:
    """Half-drawn cases: without theta; the last minibatch is a smaller one."""
    for seed in count():
        rng = np.random.default_rng(seed)
        minibatches = [[drawn(rng, n, 2), drawn(rng, n, 1)] for n in (4, 4, 3)]
        parameters = {"w": drawn(rng, 2, 1), "b": drawn(rng, 1)}
        yield {"lr": 0.5, "minibatches": minibatches, "parameters": parameters}


def language_model_cases(cell: str, num_layers: int) -> Iterator[Case]:
    """Half-drawn cases: without theta; the minibatches continue each other."""
    model = {"cell": cell, "num_layers": num_layers, "vocab_size": V, "num_hiddens": H}
    shapes = reference.LanguageModel(**model).shapes()
    for seed in count():
        rng = np.random.default_rng(seed)
        text = rng.integers(0, V, (B, STEPS * T + 1))
        yield {
            "model": model,
            "lr": 0.5,
            "minibatches": [
                [text[:, t : t + T], text[:, t + 1 : t + T + 1]] for t in range(0, STEPS * T, T)
            ],
            "parameters": {name: drawn(rng, *shape) for name, shape in shapes.items()},
            "prefix": rng.integers(1, V, 4),
            "continuation_length": 12,
        }


def is_telling(case: Case, expected: dict[str, Any]) -> bool:
    """Whether everything that the case shall prove can be seen in it."""
    norms, theta = expected["gradient_norms"], case["theta"]
    clips_by_far = max(norms) > 1.25 * theta and min(norms) < 0.9 * theta
    if "model" not in case:
        return clips_by_far
    model = reference.LanguageModel(**case["model"])
    tokens, leads = zip(
        *model.continuation(expected["parameters"], case["prefix"], case["continuation_length"]),
        strict=True,
    )
    return clips_by_far and len(set(tokens)) >= 4 and min(leads) > 0.01


def first_telling(cases: Iterator[Case]) -> Case:
    """The first case that is, with theta between its norms, and with what is expected."""
    for case in cases:
        norms = reference.expected(case | {"theta": np.inf})["gradient_norms"]
        case["theta"] = round(float(np.sqrt(min(norms) * max(norms))), 2)
        expected = reference.expected(case)
        if is_telling(case, expected):
            return case | {"expected": expected}
    raise AssertionError("the draws never end")


def golden() -> dict[str, Case]:
    """All cases, by name."""
    cases = {"linear-regression": first_telling(linear_regression_cases())}
    for num_layers, suffix in ((1, ""), (2, "-2-layers")):
        for cell in reference.CELLS:
            cases[cell + suffix] = first_telling(language_model_cases(cell, num_layers))
    return cases


def as_json(value: Any, indent: str = "") -> str:
    """JSON with every list on one line, and nine digits of every number."""
    if isinstance(value, dict):
        inner = indent + " "
        lines = (f'\n{inner}"{key}": {as_json(item, inner)}' for key, item in value.items())
        return "{" + ",".join(lines) + f"\n{indent}" + "}"
    return json.dumps(_plain(value), separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


if __name__ == "__main__":
    GOLDEN.write_text(as_json(golden()) + "\n")
