"""``Accuracy`` of *Neural Networks and Deep Learning*, its base class, and `evaluate`."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.backends import Backend
from unrolled.errors import DataError, SettingError


class Metric:
    """Base class: `reset`, then `update` for every minibatch, then `accumulate`.

    What is given to `update` becomes plain numbers at once: no graph is kept alive.
    """

    def reset(self) -> None:
        """Forget all minibatches."""
        raise NotImplementedError(f"{type(self).__name__} must define reset()")

    def update(self, outputs: Any, labels: Any) -> None:
        """Add a minibatch."""
        raise NotImplementedError(f"{type(self).__name__} must define update(outputs, labels)")

    def accumulate(self) -> float:
        """Return the measure over all minibatches since `reset`."""
        raise NotImplementedError(f"{type(self).__name__} must define accumulate()")

    def name(self) -> str:
        """Return what to call it in reports."""
        return type(self).__name__


class Accuracy(Metric):
    """The share of right predictions.

    Args:
        is_logist: of binary outputs, whether they are logits (class 1 from 0 on) and not
            probabilities (class 1 from 0.5 on). For several classes it makes no difference.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update([[0.1, 2.0], [3.0, 1.0], [0.0, 0.5]], [1, 0, 0])
        >>> round(accuracy.accumulate(), 3)
        0.667
        >>> accuracy.reset()
        >>> accuracy.update([[-0.5], [0.5]], [[0], [1]])  # one column: two classes
        >>> accuracy.accumulate()
        1.0
    """

    backend: ClassVar[Backend | None] = None

    def __init__(self, is_logist: bool = True) -> None:
        self.is_logist = is_logist
        self.reset()

    def reset(self) -> None:
        self.num_correct = self.num_count = 0

    def update(self, outputs: Any, labels: Any) -> None:
        """Add a minibatch, arrays of the framework or of NumPy, or lists.

        Args:
            outputs: ``(N, C)``, of which the largest of a row is the prediction; or
                ``(N, 1)`` for two classes.
            labels: ``(N,)`` or ``(N, 1)``.

        Raises:
            DataError: the shapes do not fit; nothing is added.
        """
        outputs, labels = self.as_numpy(outputs), self.as_numpy(labels)
        if outputs.ndim != 2 or outputs.shape[1] == 0:
            raise DataError(
                f"outputs have shape {outputs.shape}; Accuracy expects (N, C), one column "
                "for each class, or (N, 1) for two classes"
            )
        count = len(outputs)
        if labels.shape not in {(count,), (count, 1)}:
            raise DataError(
                f"labels have shape {labels.shape}, which does not fit outputs of shape "
                f"{outputs.shape}; expected ({count},) or ({count}, 1)"
            )
        if outputs.shape[1] == 1:
            predicted = outputs[:, 0] >= (0 if self.is_logist else 0.5)
        else:
            predicted = outputs.argmax(axis=1)
        self.num_correct += int((predicted == labels.reshape(count)).sum())
        self.num_count += count

    def accumulate(self) -> float:
        """Return the right ones of all; 0 before the first minibatch."""
        return self.num_correct / self.num_count if self.num_count else 0.0

    def as_numpy(self, array: Any) -> npt.NDArray[Any]:
        """Return an array of the framework, or of NumPy, or a list, as NumPy's."""
        if self.backend is None or isinstance(array, (list, tuple, np.ndarray)):
            return np.asarray(array)
        return self.backend.to_numpy(array)


def evaluate(
    backend: Backend,
    model: Callable[..., Any],
    loader: Iterable[Any] | None,
    loss: Callable[[Any, Any], Any],
    metric: Metric | None,
    forward: Callable[..., Any] | None = None,
) -> tuple[float, float]:
    """Return a model's score and mean loss on data that it is not trained on.

    The targets of a minibatch are the last; ``forward`` is the model compiled, where there is one.
    """
    if metric is None:
        raise SettingError("there is no metric to evaluate by; give one, as Accuracy()")
    if loader is None:
        raise SettingError("there is no loader to evaluate on; give one, as dev_loader")
    backend.set_training(model, False)
    metric.reset()
    losses: list[float] = []
    with backend.without_gradients():
        for batch in loader:
            outputs = (forward or model)(*batch[:-1])
            value = backend.xp.mean(loss(outputs, batch[-1]))
            losses.append(float(value))  # a number, which holds no graph
            metric.update(outputs, batch[-1])
    if not losses:
        raise SettingError("the loader to evaluate on gives no minibatch; it must give at least 1")
    return metric.accumulate(), sum(losses) / len(losses)
