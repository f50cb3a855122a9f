"""``Parameters``: list, reach, tie, save and load the parameters of any model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.backends import Array, Backend
from unrolled.backends.tied import first_places
from unrolled.errors import ParameterError, RunError, check_fit, did_you_mean
from unrolled.parameters.files import as_known, read, to_bytes, untied
from unrolled.parameters.table import as_html, as_text
from unrolled.writing import write_whole


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


def listed(values: Mapping[str, npt.NDArray[Any]]) -> list[Parameter]:
    """Values by name, without a model; one array under several names is tied."""
    return [Parameter(names[0], names, array) for array, names in _by_identity(values)]


def check_finite(run: Path, values: Mapping[str, Any]) -> None:
    """Make sure that the model of a run can write something."""
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise RunError(
                f"'{run}' has a model whose {name} is NaN or infinite; it can write no text. "
                "Train it again with a smaller lr, or clipped gradients"
            )


def shapes_of(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    for name, value in values.items():
        if not hasattr(value, "shape"):
            raise ParameterError(
                f"the value of '{name}' is {type(value).__name__}; an array is expected"
            )
    return {name: tuple(value.shape) for name, value in values.items()}


def _by_identity(places: Mapping[str, Array]) -> list[tuple[Array, tuple[str, ...]]]:
    """Every array once, with all its names."""
    names: dict[str, list[str]] = {}
    for place, first in first_places(places).items():
        names.setdefault(first, []).append(place)
    return [(places[first], tuple(every)) for first, every in names.items()]


def _advice(expected: set[str], found: set[str]) -> str:
    """What to do about a file whose names do not fit a model, where that can be told."""
    first, dot, _ = min(found, default="").partition(".")
    prefix = first + dot
    if prefix and {name.removeprefix(prefix) for name in found} == expected:
        return (
            f"\nall names in the file begin with '{prefix}', as those of a model that another one "
            "wraps (DataParallel, torch.compile, Flax's params): save the model inside"
        )
    if "W_hq" in found - expected:
        return (
            "\nthe file has the names of the cells written out: "
            "model.import_parameters(unrolled.parameters.read(path)[0]) takes them"
        )
    if found > expected:
        return (
            "\nthe file holds more than parameters: buffers, or what is frozen, are taken by the "
            "framework's own way of loading (as PyTorch's load_state_dict)"
        )
    return ""


class Parameters(Mapping[str, Parameter]):
    """The parameters of a model by dotted name, each once, with all its places.

    Tied parameters are recognised by identity: one array used at two places, not two
    that happen to be equal. Any of its places finds a tied parameter.

    Args:
        backend: the framework's.
        model: a native model (in JAX, which keeps values apart, its parameters).
        gradients: by name, for frameworks that hold none themselves.

    Raises:
        ParameterError: on first use, if layers of the model have not seen an input yet and
            so have not made their parameters.

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
There are: 0.weight, 0.bias, 1.weight, 1.bias, 2.weight, 2.bias
    """

    def __init__(
        self,
        backend: Backend,
        model: Any,
        gradients: Mapping[str, Array] | Sequence[Array | None] | None = None,
    ) -> None:
        self.backend = backend
        self.model = model
        if not isinstance(gradients, (Mapping, type(None))):
            gradients = self._in_order(gradients)
        self.gradients = gradients or {}

    def _in_order(self, gradients: Sequence[Array | None]) -> dict[str, Array | None]:
        """Gradients by name, as TensorFlow's tapes give them in the order of the parameters."""
        names = list(self.backend.parameters(self.model))
        if len(gradients) != len(names):
            raise ParameterError(
                f"{len(gradients)} gradients for {len(names)} parameters: give one for each, in "
                f"this order, or a dict by name: {', '.join(names)}"
            )
        return dict(zip(names, gradients, strict=True))

    def _places(self) -> dict[str, tuple[Array, tuple[str, ...]]]:
        """By first name: the live array, and every place of it."""
        return {names[0]: (array, names) for array, names in _by_identity(self._arrays())}

    def _arrays(self) -> dict[str, Array]:
        """The live arrays by place."""
        if self.backend.is_lazy(self.model):
            raise ParameterError(
                f"this {type(self.model).__name__} has not made all its parameters: its layers "
                "wait to see how many inputs they get. Call it once, model(X), or train it"
            )
        return self.backend.named_arrays(self.model)

    def _gradient(self, array: Array, places: tuple[str, ...]) -> Array | None:
        """The sum over all uses, from the framework if it holds it."""
        gradient = self.gradients.get(places[0])
        return self.backend.gradient(array) if gradient is None else gradient

    def __getitem__(self, name: str) -> Parameter:
        every = self._places()
        for first, (array, places) in every.items():
            if name in places:
                gradient = self._gradient(array, places)
                to_numpy = self.backend.to_numpy
                return Parameter(
                    name=first,
                    places=places,
                    values=to_numpy(array).copy(),
                    gradient=None if gradient is None else to_numpy(gradient).copy(),
                )
        raise ParameterError(f"no parameter '{name}': {did_you_mean(name, self._arrays())}")

    def __contains__(self, name: object) -> bool:
        return name in self._arrays()

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
        """Write all values to a safetensors file, each once, and which places are tied.

        What the listing does not have stays out: buffers of PyTorch, as running means, and in
        Keras what is frozen (``trainable=False``) or no parameter to train.

        Raises:
            ParameterError: the file cannot be written; what was there before is there still.
        """
        content = to_bytes({place: p.values for p in self.values() for place in p.places})
        try:
            write_whole(path, content)
        except OSError as error:
            raise ParameterError(
                f"'{path}' cannot be written: {error.strerror}; name a file in a directory that "
                "exists and that you may write to"
            ) from None

    def load(self, path: str | Path) -> None:
        """Take all values from a file of `save`; what is tied there is tied here.

        Raises:
            ParameterError: the file is missing, damaged or no safetensors file, or its
                names and shapes do not fit the model; nothing is changed then.
        """
        values, arrays = untied(*read(path)), self._arrays()
        for _, places in _by_identity(arrays):  # what is tied here, a file may hold once
            kept = [values[place] for place in places if place in values]
            values |= {place: kept[0] for place in places if kept and place not in values}
        try:
            self.load_values(values)
        except ParameterError as error:
            advice = _advice({*arrays}, {*values})
            raise ParameterError(f"{error}{advice}") from None

    def load_values(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take values for all places; those that share one array are tied from now on.

        Numbers of a longer type are rounded to that of the parameter.

        Raises:
            ParameterError: names are missing or unexpected, or shapes differ, all told at
                once; or values are no arrays of real numbers, or places that are tied here
                differ there. Nothing is changed then.
        """
        arrays = self._arrays()
        check_fit(shapes_of(arrays), shapes_of(values))
        values = self._numbers(arrays, values)
        for _, (name, *others) in _by_identity(arrays):
            for place in others:
                same = values[place] is values[name]
                if not (same or np.array_equal(values[place], values[name], equal_nan=True)):
                    raise ParameterError(
                        f"'{place}' and '{name}' are tied in this model, and the values for them "
                        "differ; load them into a model where they are apart"
                    )
        for _, (name, *others) in _by_identity({place: values[place] for place in arrays}):
            for place in others:
                if arrays[place] is not arrays[name]:
                    self.backend.tie(self.model, place, name)
        live = {name: array for name, (array, _) in self._places().items()}
        self._take(live, {name: values[name] for name in live})

    def _numbers(self, arrays: Mapping[str, Array], values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values as every framework can take them; what is tied stays tied."""
        taken: dict[int, Any] = {}
        values = dict(values)
        for name, value in values.items():
            if id(value) in taken:
                continue
            if isinstance(value, np.ndarray):
                value = as_known(value)
                whole = self.backend.xp.is_integer(arrays[name])
                if value.dtype.kind not in ("iub" if whole else "f"):
                    raise ParameterError(
                        f"the values of '{name}' are {value.dtype}; "
                        f"{'whole' if whole else 'floating-point'} numbers are expected: "
                        "a cast would not keep what they mean, so do it yourself"
                    )
            taken[id(values[name])] = value
        return {name: taken[id(value)] for name, value in values.items()}

    def _take(self, live: Mapping[str, Array], values: Mapping[str, Any]) -> None:
        self.backend.assign(live, values)
