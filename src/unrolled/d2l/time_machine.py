"""``TimeMachine`` of *Dive into Deep Learning*: a data module of all windows of the text."""

from typing import Any

import numpy as np

from unrolled.checks import check
from unrolled.data.data_module import DataModule
from unrolled.data.text import small_letters, time_machine
from unrolled.data.tokens import indices
from unrolled.data.vocabulary import Vocab
from unrolled.errors import TextError


class TimeMachine(DataModule):
    """*The Time Machine* in windows of characters: every place in the text begins one.

    The first ``num_train`` windows are for training, in random order, the ``num_val`` after
    them for validation. The text is cleaned as a whole here, so that a blank stands where a
    line ends: 173,428 characters, and a vocabulary of 28 in alphabetical order. It is the
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
        """The text as it was published."""
        return time_machine()

    def _preprocess(self, text: str) -> str:
        """The text cleaned."""
        return small_letters(text)

    def _tokenize(self, text: str) -> list[str]:
        """Its tokens."""
        return list(text)

    def build(self, raw_text: str, vocab: Vocab | None = None) -> tuple[list[int], Vocab]:
        """The ids of a text, and the vocabulary: that given, else the text's own."""
        tokens = self._tokenize(self._preprocess(raw_text))
        vocab = vocab or Vocab(tokens, alphabetical=True)
        return vocab[tokens], vocab

    def get_dataloader(self, train: bool) -> Any:
        border, end = self.num_train, self.num_train + self.num_val
        rows = slice(0, border) if train else slice(border, end)
        return self.get_tensorloader((self.X, self.Y), train, rows)
