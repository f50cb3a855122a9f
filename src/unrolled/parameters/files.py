"""Save and load parameters in safetensors files."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unrolled.backends.tied import first_places
from unrolled.errors import ParameterError
from unrolled.parameters.other_files import what_else
from unrolled.untrusted import MOST_HEADER, memory, open_regular, parse_json

Values = dict[str, npt.NDArray[Any]]

METADATA = "unrolled"
"""Where a safetensors file says what the format itself has no place for."""


def as_known(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array as it is, but of a floating type of NumPy's own.

    JAX and TensorFlow give bfloat16 and smaller ones as arrays of a package of theirs.
    """
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def to_bytes(values: Mapping[str, npt.NDArray[Any]], tied: Mapping[str, str] = {}) -> bytes:
    """Values by name as a safetensors file.

    Their order and the tied places go into the file's metadata. One array under several
    names is tied: it is written once.

    Args:
        values: by name.
        tied: further places, and the names that they share their values with.
    """
    shared = first_places(values)
    arrays = {
        name: as_known(value).copy(order="C")
        for name, value in values.items()
        if shared[name] == name
    }
    tied = {place: name for place, name in shared.items() if place != name} | dict(tied)
    about = {"order": list(arrays), "tied": tied}
    # one entry only: safetensors writes several in an order that changes from run to run
    return save(arrays, metadata={METADATA: json.dumps(about)})


def untied(values: Mapping[str, npt.NDArray[Any]], tied: Mapping[str, str]) -> Values:
    """What `read` gives, under all names; those that are tied share one array."""
    return {**values, **{place: values[name] for place, name in tied.items() if name in values}}


def read(
    path: str | Path, inside: Path | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Values by name in the model's order, and tied places, from a safetensors file.

    Numbers in bfloat16, which NumPy lacks, come as float32, which holds them all.

    Args:
        path: the file.
        inside: a directory that no link may lead out of; None follows links.

    Raises:
        ParameterError: it is missing, cannot be read, is damaged, no safetensors file, larger than
            this machine's memory, or has numbers of another type that NumPy lacks.
    """
    try:
        with open_regular(path, inside) as opened:
            _check_sizes(path, opened)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            known = set(names)
            order, tied = _about(metadata[METADATA]) if METADATA in metadata else ({}, {})
            # safetensors.torch.save_model writes what it has left out, and the name of its like
            tied |= {n: to for n, to in metadata.items() if to in known and n not in known}
            names.sort(key=lambda name: order.get(name, len(order)))
            return {name: _known(path, file, name) for name in names}, tied
    except ParameterError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ParameterError(_told(path, error)) from None


def _check_sizes(path: str | Path, file: BinaryIO) -> None:
    """Make sure that a file's header and arrays fit the memory, before any is taken."""
    size, there = os.fstat(file.fileno()).st_size, memory()
    header = int.from_bytes(file.read(8), "little")
    if MOST_HEADER < header <= size - 8:
        raise ParameterError(
            f"'{path}' says that its header has {header:,} bytes; at most {MOST_HEADER:,} are "
            "expected. The file is damaged, or its arrays belong into several files"
        )
    if there is not None and size > there:
        raise ParameterError(
            f"'{path}' has {size / 2**30:,.0f} GiB, and this machine has {there / 2**30:,.0f} GiB "
            "of memory; read it on a larger one"
        )


def _told(path: str | Path, error: Exception) -> str:
    """Why a file cannot be read, and what to do."""
    try:
        other = None if isinstance(error, PermissionError) else what_else(Path(path))
    except OSError:
        other = None
    if other is not None:
        return f"'{path}' is no safetensors file but {other}"
    if isinstance(error, FileNotFoundError):
        return f"'{path}' does not exist; name a safetensors file"
    if isinstance(error, OSError):
        reason = error.strerror or error
        return f"'{path}' cannot be read: {reason}; name a safetensors file that you may read"
    return f"'{path}' is damaged or no safetensors file: {error}; save it again"


def _about(text: str) -> tuple[dict[str, int], dict[str, str]]:
    """What `to_bytes` has written into the metadata: places in the order, and tied places."""
    about = parse_json(text.encode())
    message = f"its metadata '{METADATA}' holds no order of names and no ties"
    if not isinstance(about, dict):
        raise ValueError(message)
    order, tied = about.get("order", []), about.get("tied", {})
    fits = isinstance(order, list) and isinstance(tied, dict)
    if not fits or not all(isinstance(name, str) for name in [*order, *tied.values()]):
        raise ValueError(message)
    return {name: number for number, name in enumerate(order)}, tied


def _known(path: str | Path, file: Any, name: str) -> npt.NDArray[Any]:
    """An array of a file, of one of NumPy's own types."""
    kind = file.get_slice(name).get_dtype()
    if kind == "BF16":
        return _bfloat16(path, name)
    try:
        return as_known(file.get_tensor(name))
    except (TypeError, AttributeError):  # no package here knows the type
        raise ParameterError(
            f"'{path}': {name} is of type {kind}, which NumPy does not know; save it as float32, "
            "by the program that wrote it"
        ) from None


def _bfloat16(path: str | Path, name: str) -> npt.NDArray[np.float32]:
    """An array of the upper halves of float32 numbers, the lower halves being 0.

    Source: https://github.com/huggingface/safetensors, the section on the format.
    """
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        about = parse_json(file.read(size))[name]
        begin, end = about["data_offsets"]
        file.seek(8 + size + begin)
        halves = np.frombuffer(file.read(end - begin), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(about["shape"])
