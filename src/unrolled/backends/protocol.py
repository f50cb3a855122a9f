"""`Backend`: the functions that each framework's adapter must have.

A backend is a stateless module ``backends/<framework>.py`` with these names. Parameters
are a flat ``dict[str, Array]`` with dotted names in the model's own order. The contract
is spelt out as tests in ``tests/backends/test_contract.py``, which run for every
installed framework: start there to add one.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy.typing as npt

from unrolled.backends.namespace import Array, Namespace
from unrolled.backends.rows import SparseRows


class StateFunctions(Protocol):
    """Functions that read the state of a framework's objects, and restore it exactly.

    A *tree* is None, bool, int, float, str, a NumPy array, or lists, tuples and dicts (with keys
    of str or int) of trees. Its arrays are copies: training on does not change them, and what is
    put back shares nothing with them.
    """

    def buffers(self, model: Any) -> dict[str, Array]:
        """The live arrays of a model that are no parameters, by dotted name.

        Running statistics, for one, frozen weights, and the states of its own generators.
        """

    def load_buffers(self, model: Any, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Overwrite them all, in place.

        Raises:
            ParameterError: names, shapes or types are others.
        """

    def optimizer_state(self, optimizer: Any, parameters: Mapping[str, Array]) -> Any:
        """The tree of all that an optimizer's next steps depend on.

        Args:
            optimizer: the framework's own, ours, or one with ``state_dict()`` and
                ``load_state_dict(state)``.
            parameters: those that it moves, by dotted name, as `Backend.apply_gradients` gets them.

        Raises:
            SettingError: it has something that cannot be kept.
        """

    def load_optimizer_state(
        self, optimizer: Any, tree: Any, parameters: Mapping[str, Array]
    ) -> None:
        """Put it back into one of the same class and parameters, whether it has stepped or not.

        Raises:
            ParameterError: the state is of another optimizer, or of other parameters.
        """

    def set_lr(self, optimizer: Any, lr: float) -> None:
        """Give an optimizer another learning rate than the one in its state."""

    def generators(self) -> Any:
        """The tree of the framework's global generators; NumPy's and Python's are not in it."""

    def load_generators(self, tree: Any) -> None:
        """Put it back: the next draws are those that would have followed."""

    def is_replayable(self, loader: Any) -> bool:
        """Return whether a loader gives the same minibatches again from the same random state.

        Only loaders of the framework itself are known to do so.
        """

    def not_exact(self, compiled: Any) -> str | None:
        """Return why training with a compiled function cannot be resumed exactly, if it cannot.

        The function must have run: only then is known what it draws with.
        """


class Backend(Protocol):
    """The functions of a backend."""

    name: str
    """The framework's name, as on the command line."""

    xp: Namespace
    """Its array operations."""

    state: StateFunctions
    """Functions that read and restore the state of its objects."""

    def asarray(self, values: Any, device: Any = None) -> Array:
        """An array of the framework from NumPy values or numbers; its own arrays pass."""

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """The values, on the CPU."""

    def initialize(
        self, values: Mapping[str, npt.NDArray[Any]], device: Any = None
    ) -> dict[str, Array]:
        """Trainable parameters with these initial values, of the same types."""

    def parameters(self, model: Any) -> dict[str, Array]:
        """The live parameters of a native model, by dotted name, in its own order."""

    def named_arrays(self, model: Any) -> dict[str, Array]:
        """Every place that uses a parameter, by dotted name; tied ones share an array."""

    def is_lazy(self, model: Any) -> bool:
        """Whether parameters are still missing, as layers learn shapes from their first inputs."""

    def gradient(self, array: Array) -> Array | None:
        """The gradient that the framework holds for a parameter; None if it holds none."""

    def tie(self, model: Any, place: str, to: str) -> None:
        """Let one place of a model use the very parameter of another, of equal shape."""

    def assign(
        self, parameters: Mapping[str, Array], values: Mapping[str, Any]
    ) -> dict[str, Array]:
        """The parameters with these values, arrays of NumPy or of the framework.

        Where arrays can change they are overwritten in place, and so the model with them. Of
        `SparseRows` only those are overwritten.
        """

    def snapshot(
        self,
        parameters: Mapping[str, Array],
        reuse: Mapping[str, Array | SparseRows] | None = None,
        gradients: Mapping[str, Array] | None = None,
    ) -> dict[str, Array | SparseRows]:
        """A copy that training does not touch; into an earlier copy where one is given.

        Where the gradient that a parameter is about to be moved by holds only some of the rows,
        only those rows are copied: given to `assign`, they undo the step.
        """

    def value_and_grad(
        self, function: Callable[..., tuple[Array, Any]]
    ) -> Callable[..., tuple[tuple[Array, Any], dict[str, Array]]]:
        """Differentiate ``function(parameters, *arguments) -> (value, auxiliary)``.

        The result returns ``((value, auxiliary), gradients)``, gradients by the names
        of ``parameters``; parameters that the value does not depend on may be left out.
        """

    def apply_gradients(
        self, optimizer: Any, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The parameters after one step of the optimizer, in place where arrays can change.

        The optimizer is the framework's own kind or ours, with its state inside.
        """

    def stop_gradient(self, arrays: Any) -> Any:
        """The same values, constant to differentiation; an array or nested tuples."""

    def without_gradients(self) -> AbstractContextManager[Any]:
        """A context in which nothing is recorded for differentiation."""

    def full_precision(self) -> AbstractContextManager[Any]:
        """A context in which no GPU multiplies float32 with fewer bits (TF32), as many do."""

    def set_training(self, model: Any, training: bool) -> None:
        """Switch layers that behave differently in training (dropout) on or off."""

    def evaluating(self, model: Any) -> AbstractContextManager[None]:
        """A context in which they are off; after it they are as they were."""

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, compiled where the framework profits from it."""

    def dry_run(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function for what it does on the way, not for values: without any, if possible."""

    def seed(self, seed: int) -> None:
        """Seed the framework's own random draws."""

    def fresh_seed(self) -> int:
        """A seed drawn from the framework's own generator."""

    def devices(self, num_gpus: int) -> list[Any]:
        """The first ``num_gpus`` GPUs, as many as there are; empty means the CPU."""

    def cpu(self) -> Any:
        """The CPU, as a device."""

    def to_device(self, target: Any, device: Any) -> Any:
        """Arrays or a model, moved."""

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""

    def describe(self) -> dict[str, Any]:
        """``version``, ``devices``, ``threads``, ``numpy``: for records and doctor."""
