"""``Trainer`` and data modules bound to MXNet's backend (the loop is shared), and ``SGD``."""

from collections.abc import Generator, Iterable
from typing import Any, ClassVar

from mxnet import autograd, gluon

from unrolled.backends import Backend
from unrolled.backends import mxnet as backend
from unrolled.backends.state.mxnet import seed_step
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

    def prepare(self, model: Any, data: Any) -> None:
        super().prepare(model, data)
        # what MXNet's generator has come to cannot be read, so each step seeds it
        self._seed = backend.fresh_seed() if _draws(self.model) else None

    def own_state(self) -> int | None:
        return self._seed

    def load_own_state(self, state: int | None) -> None:
        self._seed = state

    def backward(self, *arguments: Any, **options: Any) -> Any:
        if self._seed is not None:
            seed_step(self._seed, self.train_batch_idx)
        return super().backward(*arguments, **options)

    def epochs(self, *arguments: Any) -> Generator[int, None, None]:
        training = autograd.is_training()
        try:
            yield from super().epochs(*arguments)
        finally:  # the mode is the thread's, not the model's
            autograd.set_training(training)


def _draws(model: gluon.Block) -> bool:
    """Whether a model has layers that drop some of their inputs at random."""
    found: list[gluon.Block] = []
    model.apply(found.append)
    return any(isinstance(b, gluon.nn.Dropout) or getattr(b, "_dropout", 0) for b in found)


class SGD(sgd.SGD):
    """Minibatch stochastic gradient descent: ``param -= lr * grad``.

    Args:
        params: arrays with a gradient attached, or Gluon's parameters.
        lr: learning rate.

    Example:
        >>> import mxnet as mx
        >>> w = mx.np.array([1.0])
        >>> w.attach_grad()
        >>> with mx.autograd.record():
        ...     loss = (3 * w).sum()
        >>> loss.backward()
        >>> SGD([w], lr=0.1).step(batch_size=1)
        >>> round(w.item(), 2)
        0.7
    """

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        self.save_hyperparameters(ignore=["params"])
        self.params = list(params)

    def step(self, batch_size: int = 1) -> None:
        """Move every parameter against its gradient.

        Args:
            batch_size: ignored, the loss is a mean already; Gluon's trainers take one.
        """
        for param in self.params:
            array = param.data() if isinstance(param, gluon.Parameter) else param
            if array.grad is not None:
                array[:] = updates.sgd(array, array.grad, self.lr)
