"""Minibatches that overlap: gradients may go further back than one minibatch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from unrolled.data.batching import Seed, SequenceLoader
from unrolled.data.vocabulary import Ids
from unrolled.errors import SettingError, TextError


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
        super().__init__(corpus, batch_size, num_steps, use_random_iter, asarray, seed)
        if back_steps < num_steps:
            raise SettingError(
                f"windows reach back over back_steps={back_steps} inputs for num_steps="
                f"{num_steps} targets; they must be at least as many"
            )
        self.before = back_steps - num_steps
        self.needs += self.before * (1 if use_random_iter else batch_size)
        if len(corpus) < self.needs:
            raise TextError(
                f"the text to train on has {len(corpus):,} tokens; minibatches of batch_size="
                f"{batch_size} sequences of num_steps={num_steps} that reach back over "
                f"back_steps={back_steps} need at least {self.needs:,}. Take a longer text, or "
                "a smaller batch_size or back_steps"
            )

    def __len__(self) -> int:
        """Minibatches of an epoch; some offsets give one less."""
        B, T = self.batch_size, self.num_steps
        if self.continues:
            return ((len(self.corpus) - 1) // B - self.before) // T
        return (len(self.corpus) - 1 - self.before) // T // B

    def _sequential(self) -> Iterator[tuple[Ids, Ids]]:
        B, T, before = self.batch_size, self.num_steps, self.before
        offset = int(self.rng.integers(0, T + 1))
        length = (len(self.corpus) - offset - 1) // B  # of one stream
        Xs = self.corpus[offset : offset + B * length].reshape(B, length)
        Ys = self.corpus[offset + 1 : offset + 1 + B * length].reshape(B, length)
        for start in range(before, length - T + 1, T):
            yield Xs[:, start - before : start + T], Ys[:, start : start + T]

    def _random(self) -> Iterator[tuple[Ids, Ids]]:
        B, T, before = self.batch_size, self.num_steps, self.before
        offset = int(self.rng.integers(0, T))
        count = (len(self.corpus) - offset - before - 1) // T  # subsequences
        order = self.rng.permutation(count)
        for first in range(0, count - B + 1, B):
            starts = offset + T * order[first : first + B, None]  # (B, 1)
            yield (
                self.corpus[starts + np.arange(before + T)],
                self.corpus[starts + before + 1 + np.arange(T)],
            )
