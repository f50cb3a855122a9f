"""Choosing the next token from logits: greedy, temperature, top-k, top-p."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.floating]


def greedy(logits: Logits) -> int:
    """The most likely token; of equals the first.

    Args:
        logits: ``(V,)``.

    Example:
        >>> greedy(np.array([0.1, 2.0, 1.0]))
        1
    """
    return int(logits.argmax())


def probabilities(
    logits: Logits,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> npt.NDArray[np.float64]:
    """The distribution to draw the next token from.

    The logits are divided by ``temperature``; then only the ``top_k`` most likely tokens
    remain; then, of those, the fewest whose probabilities add up to ``top_p``. Of tokens
    with equal logits the first remain.

    Args:
        logits: ``(V,)``.
        temperature: above 0; below 1 sharpens, above 1 flattens.
        top_k: tokens to keep, at least 1; None keeps all.
        top_p: probability to keep, in ``(0, 1]``; None keeps all.

    Returns:
        Probabilities ``(V,)`` that add up to 1.

    Example:
        >>> logits = np.log([0.5, 0.3, 0.2])
        >>> probabilities(logits, top_k=2).round(3)
        array([0.625, 0.375, 0.   ])
        >>> probabilities(logits, top_p=0.5).round(3)
        array([1., 0., 0.])

    Reference: top-p: A. Holtzman et al., The curious case of neural text degeneration,
    2020, https://arxiv.org/abs/1904.09751.
    """
    below = (logits - logits.max()).astype(np.float64)  # the best one's is 0
    with np.errstate(over="ignore"):  # at a tiny temperature all but the best become -inf
        p: npt.NDArray[np.float64] = np.exp(below / temperature)
    if top_k is None and top_p is None:
        p /= p.sum()
        return p
    order = np.argsort(-logits, kind="stable")  # most likely first
    p = p[order]
    if top_k is not None:
        p[top_k:] = 0.0
    p /= p.sum()
    if top_p is not None and top_p < 1:
        before = np.cumsum(p) - p  # probability of all more likely tokens
        less = before >= top_p - 1e-12
        less[0] = False  # the likeliest stays, however small top_p is
        p[less] = 0.0
        p /= p.sum()
    result: npt.NDArray[np.float64] = np.empty_like(p)
    result[order] = p
    return result


def draw(
    logits: Logits,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """A token drawn from `probabilities`; temperature 0 is `greedy`.

    Example:
        >>> draw(np.log([0.9, 0.1]), np.random.default_rng(0), top_k=1)
        0
    """
    if temperature == 0:
        return greedy(logits)
    # what rng.choice does, without its checks: where the running total passes a number below 1
    total = probabilities(logits, temperature, top_k, top_p).cumsum()
    return int((total / total[-1]).searchsorted(rng.random(), side="right"))


@dataclass(frozen=True)
class Draw:
    """`draw` as a function of the logits alone.

    Example:
        >>> Draw(np.random.default_rng(0), top_k=1)(np.log([0.9, 0.1]))
        0
    """

    rng: np.random.Generator
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __call__(self, logits: Logits) -> int:
        return draw(logits, self.rng, self.temperature, self.top_k, self.top_p)
