"""Turn objects that hold a framework's arrays into trees of NumPy arrays, and back."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unrolled.errors import ParameterError, SettingError, check_fit

PLAIN = (type(None), bool, int, float, str)

IS_NUMPY = "__numpy__"
"""Marks an array that is NumPy's in the object, too; all others are the framework's there."""


class NotATreeError(Exception):
    """A value that no tree can hold."""

    def __init__(self, value: Any) -> None:
        super().__init__(f"a {type(value).__module__}.{type(value).__name__}")


def encode(value: Any, array: Callable[[Any], Any]) -> Any:
    """The tree of an object; ``array`` gives that of a framework's array, None of anything else."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        # with its type: what NumPy calls a number is not always one of Python's
        return {IS_NUMPY: np.array(value), "scalar": isinstance(value, np.generic)}
    kept = array(value)
    if kept is not None:
        return kept
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (int, str):
                raise NotATreeError(key)
        return {key: encode(item, array) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        items = [encode(item, array) for item in value]
        return items if isinstance(value, list) else tuple(items)
    raise NotATreeError(value)


def decode(tree: Any, array: Callable[[Any], Any]) -> Any:
    """The object of a tree: ``array`` is given arrays, and dicts, and gives None if it leaves one.

    Nothing in it is shared with the tree.
    """
    if isinstance(tree, dict) and IS_NUMPY in tree:
        copy = np.array(tree[IS_NUMPY])
        return copy[()] if tree["scalar"] else copy
    if isinstance(tree, (np.ndarray, dict)):
        made = array(tree)
        if made is not None:
            return made
    if isinstance(tree, dict):
        return {key: decode(item, array) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(decode(item, array) for item in tree)
    return tree


def class_name(value: Any) -> str:
    """The class, as messages and checkpoints name it."""
    return type(value).__qualname__


def state_of(optimizer: Any, array: Callable[[Any], Any]) -> Any:
    """The tree of what an optimizer's own ``state_dict()`` returns."""
    name = class_name(optimizer)
    missing = [m for m in ("state_dict", "load_state_dict") if not hasattr(optimizer, m)]
    if missing:
        raise SettingError(
            f"the optimizer is a {name}, which has no {' and no '.join(missing)}: a checkpoint "
            "could not keep what it has learned. Give it state_dict(), which returns a dict of "
            "numbers, texts, lists, dicts and arrays, and load_state_dict(state), which takes "
            "that dict"
        )
    try:
        return {"class": name, "state": encode(optimizer.state_dict(), array)}
    except NotATreeError as found:
        raise SettingError(
            f"state_dict() of the optimizer {name} holds {found}, which a checkpoint cannot keep: "
            "let it return a dict of numbers, texts, lists, tuples, dicts and arrays"
        ) from None


def check_class(optimizer: Any, tree: Any) -> None:
    """Make sure that a state is one of this class of optimizers."""
    name = class_name(optimizer)
    if tree["class"] != name:
        raise ParameterError(
            f"the state is of the optimizer {tree['class']}, this one is a {name}: train on with "
            f"{tree['class']}, or start anew"
        )


def check_arrays(
    expected: Mapping[str, np.ndarray[Any, Any]], found: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Make sure that values have the names, shapes and types of the arrays that they replace."""
    check_fit(
        {name: value.shape for name, value in expected.items()},
        {name: value.shape for name, value in found.items()},
    )
    wrong = [name for name, value in expected.items() if value.dtype != found[name].dtype]
    if wrong:
        name = wrong[0]
        raise ParameterError(
            f"the values of '{name}' are {found[name].dtype}; {expected[name].dtype} is expected"
        )
