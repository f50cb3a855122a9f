"""The training task of all competitors: sizes, initial values, minibatches.

One piece of work is a whole training step on a minibatch of *The Time Machine*: forward,
backward, clipping at global norm 1, SGD at a learning rate of 1; the state is carried over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from unrolled.data.batching import SequenceLoader
from unrolled.data.text import clean, time_machine
from unrolled.data.vocabulary import Ids, Vocab
from unrolled.functional.bptt import GATES
from unrolled.functional.recurrent import CELLS
from unrolled.models.weights import layer_prefix, with_prefix

LEARNING_RATE, CLIP_NORM = 1.0, 1.0

Batch = tuple[Ids, Ids]
"""``(X, Y)``, ids ``(B, T)`` each."""

Competing = Callable[[list[Batch]], Callable[[], float]]
"""Makes minibatches ready, outside the clock; returns what trains on all of them, waits for
the device, and gives the loss of the last one."""


@dataclass(frozen=True)
class Task:
    """Sizes and settings of the model to train."""

    cell: str = "rnn"  # name in `unrolled.functional.recurrent.CELLS`
    H: int = 512  # hidden units
    B: int = 32  # sequences of a minibatch
    T: int = 35  # their length
    V: int = 28  # size of the vocabulary; The Time Machine has 28 characters, with <unk>
    layers: int = 1  # recurrent ones
    threads: int = 1  # for every competitor
    seed: int = 0  # of the initial values and of where the minibatches begin
    gpu: bool = False  # train on the first GPU, else on the CPU

    @property
    def tokens(self) -> int:
        """Of a minibatch."""
        return self.T * self.B

    @property
    def operations(self) -> float:
        """Floating point operations of a training step on a minibatch.

        For each token ``6 (G H^2 + H V)``: a multiplication and an addition for each weight,
        forward and twice backward (of the layer below, of the weight). Rows that are looked
        up cost nothing; a layer above another multiplies its inputs by ``(H, G * H)``, too.
        """
        G, above = len(GATES[CELLS[self.cell].engine]), self.layers - 1
        weights = G * self.H**2 * (self.layers + above) + self.H * self.V
        return 6.0 * self.tokens * weights

    def values(self) -> dict[str, npt.NDArray[np.float32]]:
        """Initial values by the from-scratch names, biases too: never zeros, which are faster."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.layers):
            weights = CELLS[self.cell].shapes(self.H if layer else self.V, self.H)
            shapes |= with_prefix(layer_prefix(layer, self.layers), weights)
        shapes |= {"W_hq": (self.H, self.V), "b_q": (self.V,)}
        rng, sigma = np.random.default_rng(self.seed), 0.5 * self.H**-0.5
        return {n: rng.normal(0, sigma, s).astype(np.float32) for n, s in shapes.items()}

    @cached_property
    def batches(self) -> list[Batch]:
        """Consecutive minibatches of the whole text.

        For another size of the vocabulary the characters are coded anew, each with those
        before it, as a number below V: so many kinds of tokens, some frequent, most rare.
        """
        text = clean(time_machine())
        ids = Vocab(text).encode(text)
        if self.V != KINDS:
            ids = grouped(ids, self.V)
        return list(SequenceLoader(ids, self.B, self.T, seed=self.seed))

    def first(self, count: int) -> list[Batch]:
        """So many minibatches, from the start again where the text ends."""
        return [self.batches[i % len(self.batches)] for i in range(count)]


KINDS = 28
"""Characters of the cleaned *Time Machine*, with ``<unk>``."""


def grouped(ids: Ids, V: int) -> Ids:
    """Ids below V: every character together with the ones before it.

    Example:
        >>> grouped(np.array([1, 2, 3]), 784)  # 28 * 1 + 2 and so on; the first has none before
        array([ 1, 30, 59])
    """
    codes, power = ids.copy(), KINDS
    for back in range(1, 5):
        if power >= V:
            break
        codes[back:] += ids[:-back] * power
        power *= KINDS
    return codes % V
