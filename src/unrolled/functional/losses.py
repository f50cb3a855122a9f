"""Cross-entropy, squared and robust losses, perplexity, accuracy."""

import math

from unrolled.backends.namespace import Array, Namespace


def squared_loss(xp: Namespace, y_hat: Array, y: Array, averaged: bool = True) -> Array:
    """Half the squared error, averaged: ``mean((y_hat - y)^2 / 2)``.

    The half makes the derivative of one term ``y_hat - y``; other libraries' mean
    squared error is twice this.

    Args:
        xp: array namespace.
        y_hat: predictions of any shape.
        y: targets, reshaped to the shape of ``y_hat``.
        averaged: False leaves out the mean.

    Returns:
        A scalar, or the shape of ``y_hat`` without the mean.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> float(squared_loss(xp, np.array([[1.0], [2.0]]), np.array([1.0, 4.0])))
        1.0
    """
    losses = (y_hat - xp.reshape(y, tuple(y_hat.shape))) ** 2 / 2
    return xp.mean(losses) if averaged else losses


def absolute_loss(xp: Namespace, y_hat: Array, y: Array) -> Array:
    """The absolute error, averaged: ``mean(|y_hat - y|)``.

    Its derivative is -1 or 1 however large the error, so one wrong label pulls no
    harder than any other; and however small, so steps of a constant length never settle.

    Args:
        xp: array namespace.
        y_hat: predictions of any shape.
        y: targets, reshaped to the shape of ``y_hat``.

    Returns:
        A scalar.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> float(absolute_loss(xp, np.array([1.0, 2.0]), np.array([1.0, 4.0])))
        1.0
    """
    return xp.mean(xp.abs(y_hat - xp.reshape(y, tuple(y_hat.shape))))


def huber_loss(xp: Namespace, y_hat: Array, y: Array, sigma: float = 1.0) -> Array:
    """Squared near zero, absolute far from it, joined without a kink.

    With ``e = |y_hat - y|``: ``e^2 / (2 sigma)`` up to ``sigma``, then ``e - sigma / 2``;
    averaged.

    Args:
        xp: array namespace.
        y_hat: predictions of any shape.
        y: targets, reshaped to the shape of ``y_hat``.
        sigma: the error at which the one goes over into the other, above 0.

    Returns:
        A scalar.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> [float(huber_loss(xp, np.array([e]), np.array([0.0]))) for e in (0.5, 1.0, 3.0)]
        [0.125, 0.5, 2.5]

    Reference: P. J. Huber, Robust estimation of a location parameter, 1964.
    """
    error = xp.abs(y_hat - xp.reshape(y, tuple(y_hat.shape)))
    # max(e, sigma) - sigma is what lies beyond the border; the rest is squared
    beyond = xp.maximum(error, xp.zeros_like(error) + sigma) - sigma
    within = error - beyond
    return xp.mean(within**2 / (2 * sigma) + beyond)


def cross_entropy(xp: Namespace, logits: Array, targets: Array, averaged: bool = True) -> Array:
    """Mean cross-entropy of a softmax, in nats: ``mean(log sum_v exp(x_v) - x_target)``.

    The largest logit of a row is taken out before the exponential, so that no row
    overflows. The arrays of this formula fill the memory where the vocabulary is large, and
    where it is small its ten operations take longer than their arithmetic; a framework that
    runs it line by line has it as one operation in its table, and that takes over.

    Args:
        xp: array namespace.
        logits: unnormalised log-probabilities ``(N, V)``.
        targets: integer ids ``(N,)`` in ``[0, V)``; for others the result means nothing, and
            PyTorch raises its own error.
        averaged: False leaves out the mean.

    Returns:
        A scalar, or ``(N,)`` without the mean; ``log V`` for uniform predictions.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> round(float(cross_entropy(xp, np.zeros((2, 28)), np.array([3, 9]))), 4)  # log 28
        3.3322
    """
    if averaged and xp.cross_entropy is not None:
        return xp.cross_entropy(logits, targets)
    largest = xp.stop_gradient(xp.amax(logits, axis=-1, keepdims=True))  # (N, 1)
    shifted = logits - largest  # (N, V)
    losses = xp.log(xp.sum(xp.exp(shifted), axis=-1)) - xp.pick(shifted, targets)  # (N,)
    return xp.mean(losses) if averaged else losses


def accuracy(xp: Namespace, logits: Array, targets: Array, averaged: bool = True) -> Array:
    """The share of rows whose largest logit is the target's.

    Args:
        xp: array namespace.
        logits: ``(N, V)``.
        targets: integer ids ``(N,)`` in ``[0, V)``.
        averaged: False leaves out the mean.

    Returns:
        A scalar, or zeros and ones ``(N,)`` without the mean; float32.

    Example:
        >>> import numpy as np
        >>> from unrolled.backends.numpy import xp
        >>> float(accuracy(xp, np.array([[1.0, 2.0], [4.0, 3.0]]), np.array([1, 1])))
        0.5
    """
    predicted = xp.one_hot(xp.argmax(logits), logits.shape[-1])  # (N, V)
    correct = xp.pick(predicted, targets)
    return xp.mean(correct) if averaged else correct


def perplexity(cross_entropy_nats: float) -> float:
    """The exponential of the mean cross-entropy over all tokens.

    1 for a perfect model, ``V`` for one that finds all ``V`` tokens equally likely.

    Args:
        cross_entropy_nats: the mean; one above 709 gives infinity.

    Example:
        >>> round(perplexity(math.log(28)), 6)
        28.0
    """
    try:
        return math.exp(cross_entropy_nats)
    except OverflowError:  # beyond e^709: as good as infinite
        return math.inf
