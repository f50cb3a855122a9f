"""The states of the global generators of NumPy and of Python's ``random``."""

import random
from typing import Any

import numpy as np

from unrolled.errors import ParameterError


def random_state(generator: Any) -> dict[str, Any]:
    """The state of a `random.Random`, or of the module ``random`` itself."""
    version, words, gauss_next = generator.getstate()
    return {"version": version, "words": np.array(words, np.uint32), "gauss_next": gauss_next}


def load_random_state(generator: Any, tree: Any) -> None:
    """Put back what `random_state` gave."""
    words = tuple(int(word) for word in tree["words"])
    generator.setstate((tree["version"], words, tree["gauss_next"]))


def python_generators() -> dict[str, Any]:
    """The states of Python's ``random`` and of ``numpy.random``, as a tree."""
    return {"random": random_state(random), "numpy": _plain(np.random.get_state(legacy=False))}


def load_python_generators(tree: Any) -> None:
    """Put back what `python_generators` gave: the next draws are those that would have followed."""
    load_random_state(random, tree["random"])
    kind = np.random.get_state(legacy=False)["bit_generator"]
    if kind != tree["numpy"]["bit_generator"]:
        raise ParameterError(
            f"the state is of NumPy's bit generator {tree['numpy']['bit_generator']}, the global "
            f"one is {kind} here: call numpy.random.set_bit_generator as when it was saved"
        )
    np.random.set_state(tree["numpy"])


def _plain(state: Any) -> Any:
    """The same with copies of arrays, and with numbers of Python."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return state.copy()
    return state.item() if isinstance(state, np.generic) else state
