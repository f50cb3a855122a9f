"""Turn a tree of state into JSON and named arrays, and back, bit for bit.

A tree is None, a bool, an int, a float, a str, a list, a tuple, a dict with keys of str or int, a
NumPy array or a NumPy scalar, nested anyhow. What JSON has no place for becomes an object with
one key:

- ``{"$array": [name, dtype]}``, ``{"$scalar": [name, dtype]}``: one of the named arrays,
- ``{"$tuple": [...]}``, ``{"$dict": [[key, value], ...]}``: a tuple, a dict whose keys are not
  plain names,
- ``{"$int": "-0x..."}``, ``{"$float": bits}``, ``{"$str": bytes}``: whole numbers beyond 64 bits,
  numbers that are not finite, text with halves of characters; in hexadecimal digits.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from unrolled.errors import RunError, SettingError

Array = npt.NDArray[Any]

MOST_DEPTH = 100
"""Levels of a tree. Fewer than Python's stack and its JSON reader can go down."""

PLAIN = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""Types that safetensors and NumPy both know."""

BITS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
"""Types that the package ml_dtypes adds to NumPy, and what keeps their bits."""

PAIRS = {"complex64": "float32", "complex128": "float64"}
"""Complex types, and those of their two parts, which become a last axis."""


def flatten(tree: Any) -> tuple[Any, dict[str, Array]]:
    """A tree as a value for JSON and arrays by name; the names are their places in the tree.

    An array object that is in the tree several times is kept once. The arrays are not copied: they
    may share memory with the tree. A `SettingError` names what cannot be kept.

    Example:
        >>> flatten({"step": 3, "Adam": [(0.9, 0.999), np.zeros(2)]})[0]
        {'step': 3, 'Adam': [{'$tuple': [0.9, 0.999]}, {'$array': ['Adam.1', 'float64']}]}
    """
    flattening = _Flattening()
    return flattening.value(tree, ()), flattening.arrays


def unflatten(value: Any, arrays: Mapping[str, Array]) -> Any:
    """The tree that `flatten` was given. An array that was there several times is one object."""
    unflattening = _Unflattening(arrays)
    tree = unflattening.tree(value, ())
    if unused := arrays.keys() - unflattening.restored.keys():
        raise RunError(
            f"the state is damaged: nothing in it names the array '{min(unused)}'"
            + (f" and {len(unused) - 1} more" if len(unused) > 1 else "")
        )
    return tree


def _shown(path: tuple[Any, ...]) -> str:
    # Python refuses to write long numbers as decimal ones; halves of characters cannot be written
    parts = (
        f"{part:#x}" if type(part) is int and abs(part) >= 2**64 else f"{part}" for part in path
    )
    return (".".join(parts) or "state").encode("utf-8", "replace").decode()


class _Flattening:
    """One call of `flatten`."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._names: dict[int, str] = {}

    def value(self, tree: Any, path: tuple[Any, ...]) -> Any:
        """A part of a tree as a value for JSON; its arrays are added to the others."""
        if len(path) > MOST_DEPTH:
            raise SettingError(
                f"the state to keep is nested more than {MOST_DEPTH} levels deep at "
                f"'{_shown(path[:8])}...'; does it contain itself?"
            )
        kind = type(tree)
        if kind is list or kind is tuple:
            parts = [self.value(part, (*path, place)) for place, part in enumerate(tree)]
            return parts if kind is list else {"$tuple": parts}
        if kind is dict:
            return self._dict(tree, path)
        if kind is np.ndarray or isinstance(tree, np.generic):
            return self._array(tree, path)
        return _leaf(tree, path)

    def _dict(self, tree: dict[Any, Any], path: tuple[Any, ...]) -> Any:
        for key in tree:
            if type(key) not in (str, int):
                raise SettingError(
                    f"a key of '{_shown(path)}' is {key!r}, of type {type(key).__name__}, which "
                    "no checkpoint can keep; use str or int"
                )
        parts = [(key, self.value(part, (*path, key))) for key, part in tree.items()]
        if all(type(key) is str and not key.startswith("$") and _is_text(key) for key in tree):
            return dict(parts)
        return {"$dict": [[self.value(key, path), part] for key, part in parts]}

    def _array(self, given: Any, path: tuple[Any, ...]) -> Any:
        dtype = given.dtype
        if not dtype.isnative:
            raise _refused(path, f"{type(given).__name__} of another byte order ({dtype.str})")
        if dtype.name in PAIRS:
            stored = np.asarray(given)[..., np.newaxis].view(PAIRS[dtype.name])
        elif dtype.name in BITS:
            stored = np.asarray(given).view(BITS[dtype.name])
        elif dtype.name in PLAIN:
            stored = np.asarray(given)
        else:
            raise _refused(path, f"{type(given).__name__} of type {dtype}")
        name = self._names.get(id(given))  # the tree holds it, so no other has its id
        if name is None:
            name = self._names[id(given)] = self._new_name(_shown(path))
            self.arrays[name] = stored
        return {"$scalar" if isinstance(given, np.generic) else "$array": [name, dtype.name]}

    def _new_name(self, place: str) -> str:
        # {"a": {"b": ...}, "a.b": ...} has a place twice; one name has a meaning to safetensors
        name, number = place, 1
        while name in self.arrays or name == "__metadata__":
            number += 1
            name = f"{place}~{number}"
        return name


def _leaf(value: Any, path: tuple[Any, ...]) -> Any:
    """A part without parts as a value for JSON."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if value.bit_length() < 64 else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
    if kind is str:
        return value if _is_text(value) else {"$str": value.encode("utf-8", "surrogatepass").hex()}
    raise _refused(path, kind.__name__)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(path: tuple[Any, ...], what: str) -> SettingError:
    return SettingError(
        f"'{_shown(path)}' is of type {what}, which no checkpoint can keep; make it a bool, int, "
        "float, str, list, tuple, dict, None, or a NumPy array of numbers"
    )


class _Unflattening:
    """One call of `unflatten`."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = arrays
        self.restored: dict[str, Array] = {}
        self.tags: dict[str, Callable[[Any, tuple[Any, ...]], Any]] = {
            "$array": self._array,
            "$scalar": lambda value, path: self._array(value, path, scalar=True),
            "$tuple": lambda value, path: tuple(self._list(value, path)),
            "$dict": self._dict,
            "$int": self._int,
            "$float": self._float,
            "$str": self._str,
        }

    def tree(self, value: Any, path: tuple[Any, ...]) -> Any:
        """A part of the tree."""
        if len(path) > MOST_DEPTH:
            _damaged(path[:8], f"nested more than {MOST_DEPTH} levels deep")
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float and math.isfinite(value):
            return value
        if kind is list:
            return self._list(value, path)
        if kind is not dict:
            _damaged(path, f"{value!r:.40}, which is no part of a state")
        if not any(type(key) is not str or key.startswith("$") for key in value):
            return {key: self.tree(part, (*path, key)) for key, part in value.items()}
        if len(value) != 1:
            _damaged(path, "an object with a tag and more")
        ((tag, content),) = value.items()
        if tag not in self.tags:
            _damaged(path, f"tagged {tag!r:.40}, which is unknown")
        return self.tags[tag](content, path)

    def _list(self, value: Any, path: tuple[Any, ...]) -> list[Any]:
        if type(value) is not list:
            _damaged(path, "no list")
        return [self.tree(part, (*path, place)) for place, part in enumerate(value)]

    def _dict(self, value: Any, path: tuple[Any, ...]) -> dict[Any, Any]:
        tree: dict[Any, Any] = {}
        if type(value) is not list:
            _damaged(path, "no list of keys and values")
        for pair in value:
            if type(pair) is not list or len(pair) != 2:
                _damaged(path, "no list of keys and values")
            key = self.tree(pair[0], (*path, "key"))
            if type(key) not in (str, int):
                _damaged(path, f"a dict with a key of type {type(key).__name__}")
            if key in tree:
                _damaged((*path, key), "in a dict twice")
            tree[key] = self.tree(pair[1], (*path, key))
        return tree

    def _int(self, value: Any, path: tuple[Any, ...]) -> int:
        return int(_digits(value, path, "-?0x[0-9a-f]+"), 16)

    def _float(self, value: Any, path: tuple[Any, ...]) -> float:
        (number,) = struct.unpack(">d", bytes.fromhex(_digits(value, path, "[0-9a-f]{16}")))
        return float(number)

    def _str(self, value: Any, path: tuple[Any, ...]) -> str:
        data = bytes.fromhex(_digits(value, path, "([0-9a-f]{2})+"))
        try:
            return data.decode("utf-8", "surrogatepass")
        except ValueError:
            _damaged(path, "no text")

    def _array(self, value: Any, path: tuple[Any, ...], scalar: bool = False) -> Any:
        if type(value) is not list or list(map(type, value)) != [str, str]:
            _damaged(path, "no name and type of an array")
        name, dtype = value
        if name not in self.arrays:
            _damaged(path, f"the array {name!r:.80}, which is missing")
        if name not in self.restored:
            self.restored[name] = _restored(self.arrays[name], dtype, path)
        array = self.restored[name]
        if array.dtype.name != dtype or (scalar and array.ndim):
            _damaged(path, f"{array.dtype} of shape {array.shape} where {dtype:.40} was kept")
        return array[()] if scalar else array


def _restored(stored: Array, dtype: str, path: tuple[Any, ...]) -> Array:
    """An array of the type that it had, from what kept it."""
    if dtype in PLAIN:
        return stored
    if stored.dtype.name != (BITS | PAIRS).get(dtype):
        _damaged(path, f"an array of {stored.dtype}, which does not keep {dtype!r:.40}")
    if dtype in PAIRS:
        if stored.shape[-1:] != (2,):
            _damaged(path, f"pairs of numbers of shape {stored.shape}")
        return stored.copy(order="C").view(dtype).reshape(stored.shape[:-1])
    try:
        return stored.view(np.dtype(dtype))
    except TypeError:  # NumPy learns the type from a package that the frameworks import
        raise RunError(
            f"'{_shown(path)}' of the state is of type {dtype}, which NumPy does not know here; "
            "import the framework first, or: pip install ml_dtypes"
        ) from None


def _digits(value: Any, path: tuple[Any, ...], form: str) -> str:
    """Text of hexadecimal digits and nothing else, which int() and bytes.fromhex() would take."""
    if type(value) is not str or not re.fullmatch(form, value):
        _damaged(path, "no hexadecimal number")
    return value


def _damaged(path: tuple[Any, ...], what: str) -> NoReturn:
    raise RunError(f"the state is damaged: '{_shown(path)}' is {what}")
