"""Parameters in safetensors files: plain numbers, no code to run on loading."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unrolled.backends.tied import first_places
from unrolled.errors import ParameterError

Values = dict[str, npt.NDArray[Any]]

METADATA = "unrolled"
"""Where a safetensors file says what the format itself has no place for."""


def to_bytes(values: Mapping[str, npt.NDArray[Any]], tied: Mapping[str, str] = {}) -> bytes:
    """Values by name as a safetensors file.

    Their order and the tied places go into the file's metadata. One array under several
    names is tied: it is written once.

    Args:
        values: by name.
        tied: further places, and the names that they share their values with.

    Example:
        >>> import numpy as np
        >>> weight = np.ones((2, 2))
        >>> len(to_bytes({"a": weight, "b": weight})) < len(to_bytes({"a": weight, "b": +weight}))
        True
    """
    shared = first_places(values)
    arrays = {name: value.copy(order="C") for name, value in values.items() if shared[name] == name}
    tied = {place: name for place, name in shared.items() if place != name} | dict(tied)
    about = {"order": list(arrays), "tied": tied}
    # one entry only: safetensors writes several in an order that changes from run to run
    return save(arrays, metadata={METADATA: json.dumps(about)})


def untied(values: Mapping[str, npt.NDArray[Any]], tied: Mapping[str, str]) -> Values:
    """What `read` gives, under all names; those that are tied share one array.

    Example:
        >>> import numpy as np
        >>> both = untied({"a": np.ones(2)}, {"b": "a"})
        >>> both["b"] is both["a"]
        True
    """
    return {**values, **{place: values[name] for place, name in tied.items() if name in values}}


def read(path: str | Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Values by name in the model's order, and tied places, from a safetensors file.

    Raises:
        ParameterError: it is missing, damaged, or no safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            names = list(file.keys())
            order = about.get("order", [])
            names.sort(key=lambda name: order.index(name) if name in order else len(order))
            values = {name: file.get_tensor(name) for name in names}
        return values, about.get("tied", {})
    except FileNotFoundError:
        raise ParameterError(f"'{path}' does not exist; name a safetensors file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ParameterError(
            f"'{path}' is damaged or no safetensors file: {error}; save it again"
        ) from None
