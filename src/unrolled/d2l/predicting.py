"""Continue a text with a vocabulary as *Dive into Deep Learning* prints one."""

from collections.abc import Sequence
from typing import Any

from unrolled.backends import Backend
from unrolled.models.generation import check_begins, continue_ids


def predict(
    backend: Backend,
    net: Any,
    vocab: Any,
    prefix: str | Sequence[str],
    num_preds: int,
    device: Any = None,
) -> str:
    """The prefix and ``num_preds`` tokens after it, each the most likely, in one string.

    Args:
        backend: the model's.
        net: as of `unrolled.models.generation.generate`.
        vocab: a `Vocab`, or a reader's own: ``vocab[token]`` is an id, and
            ``vocab.idx_to_token[id]`` the token. What it does not know is written as ``<unk>``.
        prefix: a text of characters, or a list of words.
        num_preds: tokens to add.
        device: where the model is.

    Raises:
        TextError: the prefix is empty.
    """
    check_begins(prefix)
    ids = [int(vocab[token]) for token in prefix]
    (ids,) = continue_ids(backend, net, [ids], num_preds, device=device)
    return "".join(vocab.idx_to_token[i] for i in ids)
