"""``Vocab`` maps tokens to integers, ids, and back; the types of ids; counting of characters."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.checks import checked

Ids = npt.NDArray[np.integer[Any]]

UNKNOWN = "<unk>"

PIECE = 2**17
"""Characters or bytes to work on at a time: what the arrays of a piece need fits a cache."""


def pieces_of(text: str) -> Iterator[str]:
    """A text a piece at a time."""
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def smallest_type(count: int) -> npt.DTypeLike:
    """The smallest type for the numbers from 0 to ``count - 1``."""
    return np.min_scalar_type(max(count - 1, 0))


def indices(ids: Ids) -> npt.NDArray[np.int64]:
    """Ids of the type that all frameworks take to look rows up by.

    A minibatch is converted when it is used: the whole text stays as small as it is.
    """
    return ids.astype(np.int64, copy=False)


def code_points(text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The number of every character, ``(len(text),)``: one byte each, or four if one needs it."""
    try:
        return np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    except UnicodeEncodeError:  # not only the first 256 characters
        return np.array([text]).view(np.uint32)[: len(text)]  # NumPy has no text of length 0


def count_characters(pieces: Iterable[str]) -> dict[str, int]:
    """How often each character occurs in a text, in the order of first appearance."""
    counts = np.zeros(sys.maxunicode + 1, dtype=np.int64)
    order: list[int] = []
    for piece in pieces:
        codes = code_points(piece)
        found = np.bincount(codes)
        present = np.flatnonzero(found)
        new = present[counts[present] == 0]
        counts[present] += found[present]
        if len(new):
            first = np.zeros(len(found), dtype=np.int64)
            first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several places the last stays
            order += new[np.argsort(first[new])].tolist()
    return {chr(code): int(counts[code]) for code in order}


class Vocab:
    """A vocabulary: ``<unk>`` is 0, then reserved tokens, then tokens by falling frequency.

    Tokens of equal frequency keep the order of their first appearance.

    Args:
        tokens: a list of tokens, a list of lines that are lists of tokens, a string of
            characters, or how often each token occurs, by token. A tuple is one token, as a
            pair of words that follow each other.
        min_freq: rarer tokens are left out and count as unknown.
        reserved_tokens: tokens to place after ``<unk>``, whether they occur or not.
        alphabetical: order all of them by their characters instead, ``<unk>`` too, as the
            English edition does; the id of an unknown token is ``unk`` either way.

    Example:
        >>> vocab = Vocab("hello world")
        >>> len(vocab), vocab["l"], vocab[["h", "?"]]
        (9, 1, [3, 0])
        >>> vocab.to_tokens([3, 0])
        ['h', '<unk>']
        >>> vocab.token_freqs[:2]
        [('l', 3), ('o', 2)]
        >>> Vocab(list(zip("banana", "anana"))).token_freqs[0]
        (('a', 'n'), 2)
    """

    @checked
    def __init__(
        self,
        tokens: Iterable[Any] | None = None,
        min_freq: int = 0,
        reserved_tokens: Sequence[str] | None = None,
        alphabetical: bool = False,
    ) -> None:
        self.token_freqs: list[tuple[Any, int]] = sorted(
            _count(tokens).items(), key=lambda item: item[1], reverse=True
        )
        frequent = (token for token, count in self.token_freqs if count >= min_freq)
        tokens = [UNKNOWN, *(reserved_tokens or ()), *frequent]
        self._index(sorted(tokens) if alphabetical else tokens)

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
        self.unk = self.token_to_idx.get(UNKNOWN, 0)

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

    def encode(self, text: str, dtype: npt.DTypeLike = np.int64) -> Ids:
        """Ids of the characters of a text, ``(len(text),)``; unknown ones are ``unk``.

        The same as ``vocab[list(text)]``, by looking up whole pieces of the text.

        Example:
            >>> Vocab("hello").encode("hole")
            array([2, 4, 1, 3])
        """
        encode = self.encoder(dtype)
        return np.concatenate([np.empty(0, dtype), *map(encode, pieces_of(text))])

    def encoder(self, dtype: npt.DTypeLike = np.int64) -> Callable[[str], Ids]:
        """`encode` for many pieces of text: its table is made once."""
        codes = {ord(token): i for token, i in self.token_to_idx.items() if len(token) == 1}
        # one entry more than needed: where it is clipped to, a character beyond is unknown
        table = np.full(max(max(codes, default=0) + 2, 256), self.unk, dtype)
        table[list(codes)] = list(codes.values())
        of_bytes = table[:256].tobytes()

        def encode(text: str) -> Ids:
            codes = code_points(text)
            if codes.itemsize == table.itemsize == 1:  # from bytes to bytes: the fastest way
                return np.frombuffer(codes.tobytes().translate(of_bytes), table.dtype)
            return table.take(codes, mode="clip")

        return encode

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that are not in the vocabulary, each once, in order.

        Example:
            >>> Vocab("hello").unknown("halo, hello")
            ['a', ',', ' ']
        """
        return [c for c in dict.fromkeys(text) if c not in self.token_to_idx]


def _count(tokens: Any) -> Mapping[Any, int]:
    if tokens is None:
        return {}
    if isinstance(tokens, Mapping):
        return tokens
    if isinstance(tokens, str):
        return count_characters(pieces_of(tokens))
    tokens = list(tokens)
    if tokens and isinstance(tokens[0], list):
        tokens = chain.from_iterable(tokens)
    return Counter(tokens)
