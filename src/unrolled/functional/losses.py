"""Losses, each the mean over its rows."""

import math

from unrolled.backends.namespace import Array, Namespace


def squared_loss(xp: Namespace, y_hat: Array, y: Array) -> Array:
    """Half the squared error, averaged: ``mean((y_hat - y)^2 / 2)``.

    The half makes the derivative of one term ``y_hat - y``; other libraries' mean
    squared error is twice this.

    Args:
        xp: array namespace.
        y_hat: predictions of any shape.
        y: targets, reshaped to the shape of ``y_hat``.

    Returns:
        A scalar.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> float(squared_loss(xp, np.array([[1.0], [2.0]]), np.array([1.0, 4.0])))
        1.0
    """
    return xp.mean((y_hat - xp.reshape(y, tuple(y_hat.shape))) ** 2 / 2)


def cross_entropy(xp: Namespace, logits: Array, targets: Array) -> Array:
    """Mean cross-entropy of a softmax, in nats: ``mean(log sum_v exp(x_v) - x_target)``.

    The largest logit of a row is taken out before the exponential, so that no row
    overflows.

    Args:
        xp: array namespace.
        logits: unnormalised log-probabilities ``(N, V)``.
        targets: integer ids ``(N,)`` in ``[0, V)``.

    Returns:
        A scalar; ``log V`` for uniform predictions.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> round(float(cross_entropy(xp, np.zeros((2, 28)), np.array([3, 9]))), 4)  # log 28
        3.3322
    """
    largest = xp.stop_gradient(xp.amax(logits, axis=-1, keepdims=True))  # (N, 1)
    shifted = logits - largest  # (N, V)
    return xp.mean(xp.log(xp.sum(xp.exp(shifted), axis=-1)) - xp.pick(shifted, targets))


def perplexity(cross_entropy_nats: float) -> float:
    """The exponential of the mean cross-entropy over all tokens.

    1 for a perfect model, ``V`` for one that finds all ``V`` tokens equally likely.

    Example:
        >>> round(perplexity(math.log(28)), 6)
        28.0
    """
    try:
        return math.exp(cross_entropy_nats)
    except OverflowError:  # beyond e^709: as good as infinite
        return math.inf
