"""``Classifier`` of *Dive into Deep Learning*: cross-entropy and accuracy for any framework."""

from typing import Any

from unrolled.functional.losses import accuracy, cross_entropy
from unrolled.training.module import Module


class Classifier(Module):
    """Base class of models that give a logit for each of ``C`` classes: ``(..., C)``.

    The loss is the cross-entropy. Validation draws the accuracy beside it.

    Example:
        >>> import torch
        >>> from unrolled.d2l.torch import Classifier
        >>> logits, labels = torch.tensor([[1.0, 2.0], [4.0, 3.0]]), torch.tensor([1, 1])
        >>> Classifier().accuracy(logits, labels).item()
        0.5
        >>> [round(loss, 4) for loss in Classifier().loss(logits, labels, averaged=False).tolist()]
        [0.3133, 1.3133]
    """

    def loss(self, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
        """Cross-entropy in nats.

        Args:
            Y_hat: logits ``(..., C)``.
            Y: ids of classes ``(...)``.
            averaged: False gives one for each of the ``N`` targets, ``(N,)``.
        """
        return cross_entropy(self.backend.xp, *self.rows(Y_hat, Y), averaged)

    def accuracy(self, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
        """The share of targets that have the largest logit; arguments as of `loss`."""
        return accuracy(self.backend.xp, *self.rows(Y_hat, Y), averaged)

    def rows(self, Y_hat: Any, Y: Any) -> tuple[Any, Any]:
        """Logits ``(N, C)`` and targets ``(N,)``."""
        reshape = self.backend.xp.reshape
        return reshape(Y_hat, (-1, Y_hat.shape[-1])), reshape(Y, (-1,))

    def validation_step(self, batch: Any) -> Any:
        Y_hat, Y = self(*batch[:-1]), batch[-1]  # type: ignore[operator]
        loss = self.loss(Y_hat, Y)
        self.plot_loss(loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, Y), train=False)
        return loss
