"""Overlapping minibatches, so that gradients go back further than ``num_steps``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from unrolled.checks import checked
from unrolled.data.batching import Seed, SequenceLoader
from unrolled.data.vocabulary import Ids
from unrolled.errors import SettingError


class WindowLoader(SequenceLoader):
    """As `SequenceLoader`, but with inputs that begin before those of the targets.

    Gives ``X (B, back_steps)`` and ``Y (B, num_steps)``: the targets belong to the last
    ``num_steps`` inputs, the ones before let the gradient reach back. Targets follow each
    other without overlap, so there is one update for every ``num_steps`` of them; the first
    ``back_steps - num_steps`` characters of every stream are read, but never targets.

    Args:
        corpus: ids ``(N,)``.
        batch_size: ``B``.
        num_steps: targets of a sequence.
        back_steps: inputs of a sequence, at least ``num_steps``.
        use_random_iter: random instead of sequential.
        asarray: what makes an array of the framework from one of NumPy.
        seed: of offsets and orders.

    Raises:
        SettingError: a size is below 1, or ``back_steps`` below ``num_steps``.
        TextError: the corpus is too short for one minibatch at every offset.

    Example:
        >>> loader = WindowLoader(np.arange(40), 1, num_steps=2, back_steps=5, seed=0)
        >>> [(X - X[0, 0], Y - X[0, 0]) for X, Y in loader][0]
        (array([[0, 1, 2, 3, 4]]), array([[4, 5]]))
    """

    @checked
    def __init__(
        self,
        corpus: Ids,
        batch_size: int,
        num_steps: int,
        back_steps: int,
        use_random_iter: bool = False,
        asarray: Callable[[Any], Any] = np.asarray,
        seed: Seed = None,
    ) -> None:
        if back_steps < num_steps:
            raise SettingError(
                f"windows reach back over back_steps={back_steps} inputs for num_steps="
                f"{num_steps} targets; they must be at least as many"
            )
        before = back_steps - num_steps
        super().__init__(corpus, batch_size, num_steps, use_random_iter, asarray, seed, before)
