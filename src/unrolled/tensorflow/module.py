"""The base classes of models on TensorFlow: a Keras model, or a module of variables."""

from collections.abc import Callable
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import tensorflow as tf

from unrolled.models import native
from unrolled.training import module


class _Shell(module.Module):
    backend: ClassVar[Backend] = backend
    training: bool = False
    lr: float

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

    ``trainable_variables`` lists `tf.Variable`s kept as attributes too, which Keras
    itself leaves out.
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
    def trainable_variables(self) -> list[Any]:
        listed: list[Any] = super().trainable_variables
        known = {id(v.value) for v in listed}
        return listed + [v for v in backend.parameters(self).values() if id(v) not in known]


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
