"""Choose the next token from logits: greedy, temperature, top-k, top-p."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.errors import SettingError

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


def check_ranges(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Make sure that the settings of a draw mean something.

    Raises:
        SettingError: one is out of its range; the message names all that are.

    Example:
        >>> check_ranges(1.0, 0, None)
        Traceback (most recent call last):
        ...
        unrolled.errors.SettingError: top_k is 0; it must be at least 1
    """
    problems = [
        f"{name} is {value}; it must be {rule}"
        for name, value, fits, rule in (
            ("temperature", temperature, 0 <= temperature < float("inf"), "0 or more, and finite"),
            ("top_k", top_k, top_k is None or top_k >= 1, "at least 1"),
            ("top_p", top_p, top_p is None or 0 < top_p <= 1, "above 0 and at most 1"),
        )
        if not fits
    ]
    if problems:
        raise SettingError("; ".join(problems))


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
        temperature: below 1 sharpens, above 1 flattens; at 0 only the most likely remains.
        top_k: tokens to keep, at least 1; None keeps all.
        top_p: probability to keep, in ``(0, 1]``; None keeps all.

    Returns:
        Probabilities ``(V,)`` that add up to 1.

    Raises:
        SettingError: a value out of its range.

    Example:
        >>> logits = np.log([0.5, 0.3, 0.2])
        >>> probabilities(logits, top_k=2).round(3)
        array([0.625, 0.375, 0.   ])
        >>> probabilities(logits, top_p=0.5).round(3)
        array([1., 0., 0.])

    Reference: top-p: A. Holtzman et al., The curious case of neural text degeneration,
    2020, https://arxiv.org/abs/1904.09751.
    """
    check_ranges(temperature, top_k, top_p)
    if temperature == 0:
        certain: npt.NDArray[np.float64] = np.zeros(len(logits))
        certain[greedy(logits)] = 1.0
        return certain
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

    Raises:
        SettingError: a value out of its range.

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
