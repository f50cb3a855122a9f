"""Tokens to integers and back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

UNKNOWN = "<unk>"


class Vocab:
    """A vocabulary: ``<unk>`` is 0, then reserved tokens, then tokens by falling frequency.

    Tokens of equal frequency keep the order of their first appearance.

    Args:
        tokens: a list of tokens, a list of lines of tokens, or a string of characters.
        min_freq: rarer tokens are left out and count as unknown.
        reserved_tokens: tokens to place after ``<unk>``, whether they occur or not.

    Example:
        >>> vocab = Vocab("hello world")
        >>> len(vocab), vocab["l"], vocab[["h", "?"]]
        (9, 1, [3, 0])
        >>> vocab.to_tokens([3, 0])
        ['h', '<unk>']
        >>> vocab.token_freqs[:2]
        [('l', 3), ('o', 2)]
    """

    unk = 0

    def __init__(
        self,
        tokens: Iterable[Any] = (),
        min_freq: int = 0,
        reserved_tokens: Sequence[str] = (),
    ) -> None:
        if not isinstance(tokens, str):
            tokens = list(tokens)
            if tokens and isinstance(tokens[0], (list, tuple)):
                tokens = chain.from_iterable(tokens)
        counts = Counter(tokens)
        self.token_freqs: list[tuple[str, int]] = sorted(
            counts.items(), key=lambda item: item[1], reverse=True
        )
        self._index(
            [
                UNKNOWN,
                *reserved_tokens,
                *(token for token, count in self.token_freqs if count >= min_freq),
            ]
        )

    @classmethod
    def from_list(cls, idx_to_token: Sequence[str]) -> "Vocab":
        """A vocabulary with these tokens at these places, as ``idx_to_token`` gave them.

        Example:
            >>> Vocab.from_list(Vocab("hello").idx_to_token)["o"]
            4
        """
        vocab = cls()
        vocab._index(idx_to_token)
        return vocab

    def _index(self, tokens: Iterable[str]) -> None:
        self.idx_to_token: list[str] = list(dict.fromkeys(tokens))
        self.token_to_idx: dict[str, int] = {t: i for i, t in enumerate(self.idx_to_token)}

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __getitem__(self, tokens: Any) -> Any:
        """The id of a token, or the ids of a (nested) list of tokens."""
        if isinstance(tokens, (list, tuple)):
            return [self[token] for token in tokens]
        return self.token_to_idx.get(tokens, self.unk)

    def to_tokens(self, indices: Any) -> Any:
        """The token of an id, or the tokens of a sequence or 1-D array of ids."""
        if hasattr(indices, "tolist"):
            indices = indices.tolist()
        if isinstance(indices, (list, tuple)):
            return [self.idx_to_token[int(index)] for index in indices]
        return self.idx_to_token[int(indices)]

    def encode(self, text: str) -> Ids:
        """Ids of the characters of a text, ``(len(text),)``; unknown ones are 0.

        The same as ``vocab[list(text)]``, by one table look-up for the whole text.

        Example:
            >>> Vocab("hello").encode("hole")
            array([2, 4, 1, 3])
        """
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        table = np.zeros(int(codes.max(initial=0)) + 1, dtype=np.int64)
        for token, index in self.token_to_idx.items():
            if len(token) == 1 and ord(token) < len(table):
                table[ord(token)] = index
        ids: Ids = table[codes]
        return ids

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that are not in the vocabulary, each once, in order.

        Example:
            >>> Vocab("hello").unknown("halo, hello")
            ['a', ',', ' ']
        """
        return [c for c in dict.fromkeys(text) if c not in self.token_to_idx]
