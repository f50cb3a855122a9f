"""*The Time Machine* as older editions of *Dive into Deep Learning* load it: ``SeqDataLoader``."""

from typing import ClassVar

from unrolled.backends import Backend
from unrolled.checks import checked
from unrolled.data.batching import SequenceLoader
from unrolled.data.text import clean, clean_lines, time_machine
from unrolled.data.vocabulary import Ids, Vocab


def read_time_machine() -> list[str]:
    """The cleaned lines of *The Time Machine*, 3,221 of them.

    Example:
        >>> read_time_machine()[0]
        'the time machine by h g wells'
    """
    return clean_lines(time_machine())


def tokenize(lines: list[str], token: str = "word") -> list[list[str]]:
    """Lines as lists of tokens: ``token`` is ``"word"``, as books have it, or ``"char"``.

    Raises:
        ValueError: another kind of token.

    Example:
        >>> tokenize(["the time"])
        [['the', 'time']]
    """
    if token == "char":
        return [list(line) for line in lines]
    if token == "word":
        return [line.split() for line in lines]
    raise ValueError(f"token is '{token}'; it must be 'char' or 'word'")


@checked
def load_corpus_time_machine(max_tokens: int = -1) -> tuple[Ids, Vocab]:
    """Character ids of *The Time Machine* and the vocabulary of the whole book.

    Args:
        max_tokens: how many characters from the start; 0 or less means all 170,580.

    Returns:
        Ids ``(N,)`` and a vocabulary of 28 entries.

    Example:
        >>> corpus, vocab = load_corpus_time_machine()
        >>> len(corpus), len(vocab)
        (170580, 28)
    """
    text = clean(time_machine())
    vocab = Vocab(text)
    corpus = vocab.encode(text)
    return (corpus[:max_tokens] if max_tokens > 0 else corpus), vocab


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
