"""``SeqDataLoader`` of *Dive into Deep Learning*: minibatches of *The Time Machine*."""

from typing import ClassVar

from unrolled.backends import Backend
from unrolled.checks import checked
from unrolled.data.batching import SequenceLoader
from unrolled.data.text import load_corpus_time_machine


class SeqDataLoader(SequenceLoader):
    """Minibatches ``(X, Y)`` of *The Time Machine*, ids ``(B, T)`` each, with its vocabulary.

    Args:
        batch_size: ``B``.
        num_steps: ``T``.
        use_random_iter: random instead of sequential order, see `SequenceLoader`.
        max_tokens: characters from the start of the book; 0 or less means all.
        seed: of offsets and orders; None takes one from the framework's generator.

    Attributes:
        corpus: the ids of the text.
        vocab: its vocabulary.

    Example:
        >>> from unrolled.d2l import torch as d2l
        >>> loader = d2l.SeqDataLoader(batch_size=2, num_steps=5, seed=0)
        >>> "".join(loader.vocab.to_tokens(loader.corpus[:12]))
        'the time mac'
    """

    backend: ClassVar[Backend]

    @checked
    def __init__(
        self,
        batch_size: int,
        num_steps: int,
        use_random_iter: bool = False,
        max_tokens: int = 10000,
        seed: int | None = None,
    ) -> None:
        corpus, self.vocab = load_corpus_time_machine(max_tokens)
        seed = self.backend.fresh_seed() if seed is None else seed
        asarray = self.backend.asarray
        super().__init__(corpus, batch_size, num_steps, use_random_iter, asarray, seed)
