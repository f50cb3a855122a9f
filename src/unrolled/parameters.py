"""Parameters of any native model: list them, reach one, tie two, save and load.

``unrolled.<framework>.parameters(model)`` gives a `Parameters`, whatever the framework
and whoever wrote the model.
"""

import html
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unrolled.backends import Array, Backend
from unrolled.errors import ParameterError, check_fit, did_you_mean

HEADINGS = ("name", "shape", "dtype", "values", "gradient norm", "tied with")
METADATA = "unrolled"
"""Where a safetensors file says what the format itself has no place for."""

RIGHT_ALIGNED = {"values", "gradient norm"}


@dataclass(frozen=True)
class Parameter:
    """One parameter, as it was when it was asked for.

    Attributes:
        name: its dotted name, the first of its places.
        places: every place where the model uses it; more than one if it is tied.
        values: a copy.
        gradient: the same shape; None where the framework holds none.
    """

    name: str
    places: tuple[str, ...]
    values: npt.NDArray[Any]
    gradient: npt.NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.values.shape

    @property
    def dtype(self) -> str:
        """Name of its type, as ``"float32"``."""
        return str(self.values.dtype)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(self.values.size)

    @property
    def gradient_norm(self) -> float | None:
        """L2 norm of its gradient; None without one."""
        return None if self.gradient is None else float(np.linalg.norm(self.gradient))

    def as_dict(self) -> dict[str, Any]:
        """All but the numbers themselves, as plain data."""
        return {
            "name": self.name,
            "shape": self.shape,
            "dtype": self.dtype,
            "size": self.size,
            "gradient_norm": self.gradient_norm,
            "tied_with": self.places[1:],
        }


class Parameters(Mapping[str, Parameter]):
    """The parameters of a model by dotted name, each once, with all its places.

    Tied parameters are recognised by identity: one array used at two places, not two
    that happen to be equal. Any of its places finds a tied parameter.

    Args:
        backend: the framework's.
        model: a native model (in JAX, which keeps values apart, its parameters).
        gradients: by name, for frameworks that hold none themselves.

    Example:
        >>> import torch
        >>> from unrolled.backends import torch as backend
        >>> shared = torch.nn.Linear(8, 8)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), shared, shared)
        >>> parameters = Parameters(backend, model)
        >>> len(parameters), parameters.total
        (4, 112)
        >>> parameters["1.bias"].places
        ('1.bias', '2.bias')
        >>> parameters["0.wieght"]
        Traceback (most recent call last):
        ...
        unrolled.errors.ParameterError: no parameter '0.wieght': did you mean '0.weight'? \
There are: 0.weight, 0.bias, 1.weight, 1.bias
    """

    def __init__(
        self, backend: Backend, model: Any, gradients: Mapping[str, Array] | None = None
    ) -> None:
        self.backend = backend
        self.model = model
        self.gradients = gradients or {}

    def _places(self) -> dict[str, tuple[Array, tuple[str, ...]]]:
        """By first name: the live array, and every place of it."""
        arrays: dict[int, Array] = {}
        places: dict[int, list[str]] = {}
        for name, array in self.backend.places(self.model).items():
            arrays[id(array)] = array
            places.setdefault(id(array), []).append(name)
        return {names[0]: (arrays[key], tuple(names)) for key, names in places.items()}

    def __getitem__(self, name: str) -> Parameter:
        every = self._places()
        for first, (array, places) in every.items():
            if name in places:
                gradient = self.gradients.get(first)
                if gradient is None:
                    gradient = self.backend.gradient(array)
                to_numpy = self.backend.to_numpy
                return Parameter(
                    name=first,
                    places=places,
                    values=to_numpy(array).copy(),
                    gradient=None if gradient is None else to_numpy(gradient).copy(),
                )
        raise ParameterError(f"no parameter '{name}': {did_you_mean(name, every)}")

    def __contains__(self, name: object) -> bool:
        return name in self.backend.places(self.model)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places())

    def __len__(self) -> int:
        return len(self._places())

    @property
    def total(self) -> int:
        """Numbers in all parameters together, tied ones counted once."""
        return sum(parameter.size for parameter in self.values())

    def rows(self) -> list[dict[str, Any]]:
        """The listing as data, a dict for each parameter."""
        return [parameter.as_dict() for parameter in self.values()]

    def __str__(self) -> str:
        return as_text(self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.rows())

    def tie(self, place: str, to: str) -> None:
        """Let ``place`` use the very parameter at ``to``, from now on.

        After backward its gradient is the sum over all its uses.

        Raises:
            ParameterError: a name is unknown, or the shapes differ.
        """
        kept, replaced = self[to], self[place]
        if kept.shape != replaced.shape:
            raise ParameterError(
                f"'{place}' has shape {replaced.shape} and '{to}' {kept.shape}; only parameters "
                "of equal shape can be tied"
            )
        self.backend.tie(self.model, place, to)

    def save(self, path: str | Path) -> None:
        """Write all values to a safetensors file, each once, and which places are tied."""
        every = list(self.values())
        tied = {place: p.name for p in every for place in p.places[1:]}
        Path(path).write_bytes(to_bytes({p.name: p.values for p in every}, tied))

    def load(self, path: str | Path) -> None:
        """Take all values from a file of `save`; what is tied there is tied here.

        Raises:
            ParameterError: the file is missing, damaged or no safetensors file, or its
                names and shapes do not fit the model; nothing is changed then.
        """
        values, tied = read(path)
        values |= {place: values[name] for place, name in tied.items() if name in values}
        places = self.backend.places(self.model)
        check_fit(
            {name: tuple(array.shape) for name, array in places.items()},
            {name: value.shape for name, value in values.items()},
        )
        for parameter in self.values():
            for place in parameter.places[1:]:
                if not np.array_equal(values[place], values[parameter.name]):
                    raise ParameterError(
                        f"'{place}' and '{parameter.name}' are tied in the model and differ in "
                        f"'{path}'; load it into a model where they are apart"
                    )
        for place, name in tied.items():
            if places[place] is not places[name]:
                self.tie(place, name)
        live = {name: array for name, (array, _) in self._places().items()}
        self._take(live, {name: values[name] for name in live})

    def _take(self, live: Mapping[str, Array], values: Mapping[str, Any]) -> None:
        self.backend.assign(live, values)


def to_bytes(values: Mapping[str, npt.NDArray[Any]], tied: Mapping[str, str]) -> bytes:
    """Values by name as a safetensors file: plain numbers, no code to run on loading.

    Their order and the tied places (place to name) go into the file's metadata.
    """
    arrays = {name: value.copy(order="C") for name, value in values.items()}
    about = {"order": list(arrays), "tied": dict(tied)}
    # one entry only: safetensors writes several in an order that changes from run to run
    return save(arrays, metadata={METADATA: json.dumps(about)})


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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    norm = row["gradient_norm"]
    return (
        row["name"],
        str(tuple(row["shape"])),
        row["dtype"],
        f"{row['size']:,}",
        "" if norm is None else f"{norm:.4g}",
        ", ".join(row["tied_with"]),
    )


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headings and lines, without the columns that are empty throughout, and a total."""
    total = sum(row["size"] for row in rows)
    norms = [row["gradient_norm"] for row in rows if row["gradient_norm"] is not None]
    norm = f"{math.hypot(*norms):.4g}" if norms else ""
    lines = [*map(_cells, rows), ("total", "", "", f"{total:,}", norm, "")]
    used = [i for i in range(len(HEADINGS)) if any(line[i] for line in lines)]
    return [HEADINGS[i] for i in used], [tuple(line[i] for i in used) for line in lines]


def as_text(rows: list[dict[str, Any]]) -> str:
    """A listing for a terminal.

    Example:
        >>> row = Parameter("w", ("w",), np.zeros((2, 1)), np.ones((2, 1))).as_dict()
        >>> print(as_text([row]))
        name   shape   dtype    values  gradient norm
        w      (2, 1)  float64       2          1.414
        total                        2          1.414
    """
    headings, lines = _table(rows)
    widths = [max(len(cell) for cell in column) for column in zip(headings, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading in RIGHT_ALIGNED else cell.ljust(width)
            for cell, width, heading in zip(line, widths, headings, strict=True)
        ).rstrip()
        for line in (headings, *lines)
    )


def as_html(rows: list[dict[str, Any]]) -> str:
    """A listing for a notebook.

    Example:
        >>> as_html([Parameter("w", ("w",), np.zeros(2)).as_dict()])[:25]
        '<table><thead><tr><th sty'
    """
    headings, lines = _table(rows)

    def cells(tag: str, line: list[str] | tuple[str, ...]) -> str:
        return "".join(
            f'<{tag} style="text-align:{"right" if heading in RIGHT_ALIGNED else "left"}">'
            f"{html.escape(cell)}</{tag}>"
            for cell, heading in zip(line, headings, strict=True)
        )

    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines[:-1])
    return (
        f"<table><thead><tr>{cells('th', headings)}</tr></thead><tbody>{body}</tbody>"
        f"<tfoot><tr>{cells('th', lines[-1])}</tr></tfoot></table>"
    )
