"""``Trainer`` and data modules bound to TensorFlow's backend (the loop is shared), and ``SGD``."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import tensorflow as tf

from unrolled.data import data_module, synthetic, text_data
from unrolled.functional import updates
from unrolled.training import sgd, trainer


class DataModule(data_module.DataModule):
    backend: ClassVar[Backend] = backend


class SyntheticRegressionData(synthetic.SyntheticRegressionData, DataModule):
    pass


class TextData(text_data.TextData, DataModule):
    pass


class Trainer(trainer.Trainer):
    backend: ClassVar[Backend] = backend

    def differentiable(self, objective: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
        if getattr(self.model, "runs_eagerly", False):
            return self.data_parallel.differentiable(self, objective)
        return super().differentiable(objective)

    def clip_gradients(self, grad_clip_val: float, grads: Iterable[Any]) -> list[Any]:
        """The gradients, as a tape gives them, clipped: for a `fit_epoch` of one's own."""
        named = {str(i): tf.convert_to_tensor(g) for i, g in enumerate(grads)}
        return list(self.clipped(named, grad_clip_val)[0].values())

    def clipped_by_reader(self, gradients: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in self.parameters if name in gradients]
        found = self.clip_gradients(self.gradient_clip_val, [gradients[name] for name in names])
        return dict(zip(names, found, strict=True))


class SGD(sgd.SGD):
    """Minibatch stochastic gradient descent: ``param -= lr * grad``.

    Args:
        lr: learning rate.

    Example:
        >>> import tensorflow as tf
        >>> w = tf.Variable([1.0])
        >>> with tf.GradientTape() as tape:
        ...     loss = tf.reduce_sum(3 * w)
        >>> SGD(lr=0.1).apply_gradients([(tape.gradient(loss, w), w)])
        >>> round(float(w[0]), 2)
        0.7
    """

    def __init__(self, lr: float) -> None:
        self.save_hyperparameters()

    def apply_gradients(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Move every variable against its gradient, given as ``(gradient, variable)``."""
        for gradient, variable in pairs:
            variable.assign(updates.sgd(variable, gradient, self.lr))
