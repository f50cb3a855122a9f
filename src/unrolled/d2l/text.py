"""*The Time Machine* as *Dive into Deep Learning* loads it: ``SeqDataLoader``, ``TimeMachine``."""

from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np

from unrolled.backends import Backend
from unrolled.checks import check, checked
from unrolled.data.batching import SequenceLoader
from unrolled.data.data_module import DataModule
from unrolled.data.text import clean, clean_lines, small_letters, time_machine, time_machine_path
from unrolled.data.vocabulary import Ids, Vocab, indices
from unrolled.errors import DataError, TextError

__all__ = ["DATA_HUB", "DATA_URL", "download"]
__all__ += ["load_corpus_time_machine", "read_time_machine", "tokenize"]

DATA_URL = ""
"""The address of the books' files; nothing is downloaded from it."""

DATA_HUB: dict[str, tuple[str, str]] = {}
"""The table that programs of the books add to: by name, address and SHA-1."""


def download(url: str, folder: str = "../data", sha1_hash: str | None = None) -> str:
    """Return the path of a data file that comes with the package: ``timemachine.txt``.

    Args:
        url: its address, of which the last part counts; or its name in `DATA_HUB`.
        folder: accepted; nothing is written there.
        sha1_hash: accepted; the file is compared with the published one.

    Raises:
        DataError: another file is asked for.
        TextError: the file in the installed package is not the published one.

    Example:
        >>> with open(download(DATA_URL + "timemachine.txt")) as f:
        ...     f.read(16)
        'The Time Machine'
    """
    asked, _ = DATA_HUB.get(url, (url, None))
    path = time_machine_path()
    name = PurePosixPath(path).name
    if PurePosixPath(asked).name != name:
        raise DataError(
            f"download was asked for {asked!r}, and loads nothing from the net: {name} comes with "
            "the package. Fetch other files by yourself, and open them by their paths"
        )
    time_machine()
    return path


def read_time_machine() -> list[str]:
    """Return the cleaned lines of *The Time Machine*, 3,221 of them.

    Example:
        >>> read_time_machine()[0]
        'the time machine by h g wells'
    """
    return clean_lines(time_machine())


def tokenize(lines: list[str], token: str = "word") -> list[list[str]]:
    """Return lines as lists of tokens: ``token`` is ``"word"``, as books have it, or ``"char"``.

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
    """Return character ids of *The Time Machine* and the vocabulary of the whole book.

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


class TimeMachine(DataModule):
    """*The Time Machine* in windows of characters: every place in the text begins one.

    The first ``num_train`` windows are for training, in random order, the ``num_val`` after
    them for validation. The text is cleaned as a whole here, so that each line end becomes a
    blank: 173,428 characters, and a vocabulary of 28 in alphabetical order. It is the
    package's own copy: nothing is downloaded.

    Args:
        batch_size: windows of a minibatch, ``B``. Without it and ``num_steps`` there are none, and
            only the methods that deal with the text are of use.
        num_steps: characters of a window, ``T``.
        num_train: windows to train on.
        num_val: windows to validate on.

    Attributes:
        vocab: the vocabulary.
        X, Y: ids ``(num_train + num_val, T)`` of the windows, and one character later.

    Raises:
        SettingError: ``batch_size`` or ``num_steps`` is below 1.
        TextError: the text has not so many windows.

    Example:
        >>> from unrolled.d2l import torch as d2l
        >>> data = d2l.TimeMachine(batch_size=2, num_steps=10)
        >>> X, Y = next(iter(data.val_dataloader()))
        >>> tuple(X.shape), "".join(data.vocab.to_tokens(X[0]))
        ((2, 10), 'del there ')
    """

    num_train: int
    num_val: int

    def __init__(
        self,
        batch_size: int | None = None,
        num_steps: int | None = None,
        num_train: int = 10000,
        num_val: int = 5000,
    ) -> None:
        super().__init__()
        if batch_size is None and num_steps is None:
            return
        self.save_hyperparameters()
        num_steps = num_steps or 0
        check([("batch_size", batch_size or 0, ...), ("num_steps", num_steps, ...)], "TimeMachine")
        corpus, self.vocab = self.build(self._download())
        count = num_train + num_val
        if count > len(corpus) - num_steps:
            raise TextError(
                f"num_train={num_train:,} and num_val={num_val:,} windows are asked for, and the "
                f"text of {len(corpus):,} tokens has {max(0, len(corpus) - num_steps):,} of "
                f"num_steps={num_steps}; take fewer"
            )
        tokens = indices(np.array(corpus[: count + num_steps]))
        windows = np.lib.stride_tricks.sliding_window_view(tokens, num_steps + 1)
        self.X = self.backend.asarray(windows[:, :-1].copy())
        self.Y = self.backend.asarray(windows[:, 1:].copy())

    @property
    def y(self) -> Any:
        """The same as ``Y``, by the name that data sets of regression have for their targets."""
        return self.Y

    def _download(self) -> str:
        return time_machine()

    def _preprocess(self, text: str) -> str:
        return small_letters(text)

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def build(self, raw_text: str, vocab: Vocab | None = None) -> tuple[list[int], Vocab]:
        """Return the ids of a text, and the vocabulary: that given, else the text's own."""
        tokens = self._tokenize(self._preprocess(raw_text))
        vocab = vocab or Vocab(tokens, alphabetical=True)
        return vocab[tokens], vocab

    def get_dataloader(self, train: bool) -> Any:
        end = self.num_train + self.num_val
        rows = slice(0, self.num_train) if train else slice(self.num_train, end)
        return self.get_tensorloader((self.X, self.Y), train, rows)
