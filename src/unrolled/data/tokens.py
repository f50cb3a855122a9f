"""Encode texts: `encode` gives the ids of a text's characters, as small as the vocabulary lets."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from unrolled.data.text_files import TextFiles
from unrolled.data.vocabulary import Ids, Vocab


def encode(text: str | TextFiles, vocab: Vocab) -> Ids:
    """Ids of the characters of a text, of the smallest type."""
    dtype = smallest_type(len(vocab))
    if isinstance(text, str):
        return vocab.encode(text, dtype)
    return np.concatenate([np.empty(0, dtype), *encoded_pieces(text, vocab)])


def encoded_pieces(text: TextFiles, vocab: Vocab) -> Iterator[Ids]:
    """The ids of `encode` piece by piece."""
    encode = vocab.encoder(smallest_type(len(vocab)))
    return map(encode, text.pieces("encoding the text"))


def smallest_type(count: int) -> npt.DTypeLike:
    """The smallest type for the numbers from 0 to ``count - 1``."""
    return np.min_scalar_type(max(count - 1, 0))


def indices(ids: Ids) -> npt.NDArray[np.int64]:
    """Ids of the type that all frameworks take to look rows up by.

    A minibatch is converted when it is used: the whole text stays as small as it is.
    """
    return ids.astype(np.int64, copy=False)
