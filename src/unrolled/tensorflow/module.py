"""``Module`` (a `keras.Model`), ``VariablesModule`` (a `tf.Module`), ``NativeModel`` (of any)."""

from collections.abc import Callable
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import tensorflow as tf

from unrolled.backends.tied import without_ties
from unrolled.backends.variables.tensorflow import variable_of
from unrolled.errors import ParameterError
from unrolled.models import native
from unrolled.report.board import ProgressBoard
from unrolled.training import module


def is_ours(module: Any) -> bool:
    """Whether the class of a module is one of this library's."""
    return type(module).__module__.startswith("unrolled.")


class _Shell(module.Module):
    backend: ClassVar[Backend] = backend
    board_type = ProgressBoard
    training: bool = False
    lr: float

    @property
    def runs_eagerly(self) -> bool:
        """What a reader wrote need not be something that TensorFlow can compile.

        It may count in Python, or ask for values; and so may a part of this that a reader wrote.
        """
        parts = vars(self).values()
        return not is_ours(self) or any(getattr(part, "runs_eagerly", False) for part in parts)

    def configure_optimizers(self) -> Any:
        """`keras.optimizers.SGD` at ``self.lr``."""
        self.check_lr()
        return keras.optimizers.SGD(float(self.lr) if isinstance(self.lr, int) else self.lr)

    def plot(self, key: str, value: Any, train: bool) -> None:
        if tf.is_symbolic_tensor(value):  # inside a graph: drawn when that runs
            plot = super().plot
            tf.py_function(lambda number: plot(key, number, train), [value], [])
        else:
            super().plot(key, value, train)


class Module(_Shell, keras.Model):  # type: ignore[misc]  # Keras is untyped
    """A `keras.Model`: write ``call`` as Keras has it, or ``forward``, or set ``net``.

    `tf.Variable`s kept as attributes, which Keras itself leaves out, are listed among its
    ``variables`` and ``weights`` too, and kept by ``save_weights``.
    """

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__(plot_train_per_epoch, plot_valid_per_epoch)
        del self.loss  # Keras' own, None until compile(); it would hide the method

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return super().__call__(*inputs, **({"training": self.training} | options))

    @property
    def call(self) -> Callable[..., Any]:
        """``forward``, with its own arguments, by which Keras builds layers."""
        return self.forward

    @property
    def variables(self) -> list[Any]:
        return [*super().variables, *self._unknown_to_keras().values()]

    @property
    def weights(self) -> list[Any]:
        return [*super().weights, *self._unknown_to_keras().values()]

    def _unknown_to_keras(self) -> dict[str, Any]:
        """The variables, frozen ones too, that Keras neither lists nor saves, by dotted name.

        Those of a `Module` inside this one are listed there.
        """
        known = {id(variable_of(variable)) for variable in super().variables}
        every = without_ties(backend.named_arrays(self, frozen=True))
        return {name: variable for name, variable in every.items() if id(variable) not in known}

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for name, variable in self._unknown_to_keras().items():
            store[name] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        values = {name: store[name] for name in store.keys()}  # noqa: SIM118 (no mapping)
        own = self._unknown_to_keras()
        missing = [name for name in own if name not in values]
        if missing:
            raise ParameterError(
                f"the file has no {', '.join(missing)} of this {type(self).__name__}; it has "
                f"{', '.join(values) or 'nothing'}: load into a model that is made as that one was"
            )
        for name, variable in own.items():
            variable.assign(values.pop(name))
        super().load_own_variables(values)


class VariablesModule(_Shell, tf.Module):  # type: ignore[misc]
    """A `tf.Module`: its variables are its own, written out."""

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)

    def declare(self, name: str, values: tf.Variable) -> None:
        """Keep a variable so that its path of attributes is its dotted name."""
        *path, leaf = name.split(".")
        holder: tf.Module = self
        for part in path:
            if not hasattr(holder, part):
                setattr(holder, part, tf.Module())
            holder = getattr(holder, part)
        setattr(holder, leaf, values)

    @property
    def trainable_variables(self) -> tuple[Any, ...]:
        """In the order of declaration, where TensorFlow sorts by name."""
        return tuple(backend.parameters(self).values())


class NativeModel(native.NativeModel, Module):
    pass
