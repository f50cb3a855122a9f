"""Train straight on, and with everything made anew in the middle: bit for bit the same."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unrolled.backends.state.generators import load_python_generators, python_generators

Make = Callable[[], tuple[Any, Any]]
"""Makes a model and, of its parameters, an optimizer."""

Step = Callable[[Any, Any, dict[str, Any], int], dict[str, Any]]
"""``(model, optimizer, parameters, i) -> parameters`` after the step of number i."""

EVERYTHING = ("parameters", "buffers", "optimizer", "generators", "python")


def collect(backend: Any, model: Any, optimizer: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """The tree of all there is."""
    state = backend.state
    return {
        "parameters": {name: np.array(backend.to_numpy(p)) for name, p in parameters.items()},
        "buffers": {n: np.array(backend.to_numpy(b)) for n, b in state.buffers(model).items()},
        "optimizer": state.optimizer_state(optimizer, parameters),
        "generators": state.generators(),
        "python": python_generators(),
    }


def put_back(
    backend: Any, model: Any, optimizer: Any, tree: Any, parts: Sequence[str]
) -> dict[str, Any]:
    """What `collect` gave, or parts of it, put into things made anew; gives the parameters."""
    state, parameters = backend.state, backend.parameters(model)
    if "parameters" in parts:
        parameters = backend.assign(parameters, tree["parameters"])
    if "buffers" in parts:
        state.load_buffers(model, tree["buffers"])
    if "optimizer" in parts:
        state.load_optimizer_state(optimizer, tree["optimizer"], parameters)
    if "generators" in parts:
        state.load_generators(tree["generators"])
    if "python" in parts:
        load_python_generators(tree["python"])
    return parameters


def same(a: Any, b: Any) -> bool:
    """Whether two trees are equal in types, shapes and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(a == b) or a != a


def is_tree(value: Any) -> bool:
    """Whether a checkpoint can keep it."""
    if isinstance(value, dict):
        return all(type(k) in (str, int) and is_tree(v) for k, v in value.items())
    if type(value) in (list, tuple):
        return all(map(is_tree, value))
    return type(value) in (type(None), bool, int, float, str, np.ndarray)


def resumed(
    backend: Any,
    make: Make,
    step: Step,
    parts: Sequence[str] = EVERYTHING,
    taken: int = 3,
    more: int = 3,
    change: Callable[[Any], None] = lambda optimizer: None,
    compare: Sequence[str] = EVERYTHING,
) -> bool:
    """Whether training goes on exactly if these parts of the state are put back."""

    def train(model: Any, optimizer: Any, parameters: Any, steps: range) -> Any:
        for i in steps:
            if backend.name == "mxnet":  # whose generator cannot be read
                backend.state.seed_step(5, i)
            parameters = step(model, optimizer, parameters, i)
        return parameters

    later = range(taken, taken + more)
    _seed(backend, 1)
    model, optimizer = make()
    parameters = train(model, optimizer, backend.parameters(model), range(taken))
    change(optimizer)
    tree = collect(backend, model, optimizer, parameters)
    assert is_tree(tree)
    kept = copy.deepcopy(tree)
    parameters = train(model, optimizer, parameters, later)
    straight = collect(backend, model, optimizer, parameters)
    assert same(tree, kept), "training on has changed the tree"

    _seed(backend, 2)
    model, optimizer = make()
    parameters = put_back(backend, model, optimizer, tree, parts)
    if parts == EVERYTHING:
        loaded = collect(backend, model, optimizer, parameters)
        assert all(same(loaded[part], kept[part]) for part in compare)
    parameters = train(model, optimizer, parameters, later)
    assert same(tree, kept), "training on has changed the tree that was put back"
    ending = collect(backend, model, optimizer, parameters)
    compared = compare if parts == EVERYTHING else ("parameters", "buffers")
    return all(same(ending[part], straight[part]) for part in compared)


def needs(
    backend: Any, make: Make, step: Step, among: Sequence[str] = EVERYTHING, **options: Any
) -> set[str]:
    """The parts of the state, of some, without which training goes on otherwise."""
    assert resumed(backend, make, step, **options)
    left_out = {part: [p for p in EVERYTHING if p != part] for part in among}
    return {
        part for part, rest in left_out.items() if not resumed(backend, make, step, rest, **options)
    }


def _seed(backend: Any, seed: int) -> None:
    backend.seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``(8, 3)`` and targets ``(8, 2)``."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(8, 3)).astype("f"), rng.normal(size=(8, 2)).astype("f")
