"""Text from a language model."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from unrolled.backends import Backend
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError, TextError
from unrolled.functional import sampling

Choose = Callable[[Any], int]


def check_prefix(vocab: Vocab, prefix: str, allow_unknown: bool = False) -> None:
    """Make sure that a text can be continued.

    Raises:
        TextError: it is empty, or has characters that the vocabulary lacks (unless
            ``allow_unknown``).
    """
    if not prefix:
        raise TextError("the prefix is empty; give at least one character to continue from")
    unknown = vocab.unknown(prefix)
    if unknown and not allow_unknown:
        names = ", ".join(repr(c) for c in unknown)
        lower = prefix.lower()
        better = (
            f" Write it in small letters: {lower!r}"
            if lower != prefix and not vocab.unknown(lower)
            else " Use characters of the training text only"
        )
        raise TextError(
            f"the prefix {prefix!r} has characters outside the model's vocabulary of "
            f"{len(vocab)} tokens: {names}.{better}, or let them count as <unk> with "
            "--allow-unknown"
        )


def chooser(
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Choose:
    """How to choose the next token: greedy if nothing but the seed is given.

    Args:
        temperature: at least 0 (0 is greedy); 1 if left out beside the others.
        top_k: at least 1.
        top_p: in ``(0, 1]``.
        seed: of the draws.

    Raises:
        SettingError: a value out of its range.
    """
    if temperature is None and top_k is None and top_p is None:
        return sampling.greedy
    temperature = 1.0 if temperature is None else temperature
    problems = [
        f"{name} is {value}; it must be {rule}"
        for name, value, fits, rule in (
            ("temperature", temperature, 0 <= temperature < float("inf"), "0 or more"),
            ("top_k", top_k, top_k is None or top_k >= 1, "at least 1"),
            ("top_p", top_p, top_p is None or 0 < top_p <= 1, "above 0 and at most 1"),
        )
        if not fits
    ]
    if problems:
        raise SettingError("; ".join(problems))
    rng = np.random.default_rng(seed)
    return partial(sampling.draw, rng=rng, temperature=temperature, top_k=top_k, top_p=top_p)


def generate(
    backend: Backend,
    net: Any,
    vocab: Vocab,
    prefix: str,
    length: int,
    choose: Choose = sampling.greedy,
    device: Any = None,
    allow_unknown: bool = False,
) -> str:
    """Continue a text: warm up on the prefix, then feed each chosen token back in.

    Args:
        backend: the model's.
        net: ``net(X, state) -> (logits (T * B, V), state)`` with ``begin_state``.
        vocab: of the text that the model was trained on.
        prefix: the text to continue.
        length: tokens to add.
        choose: ``logits (V,) -> id``; greedy by default, or from `chooser`.
        device: where the model is.
        allow_unknown: let characters outside the vocabulary count as ``<unk>``.

    Returns:
        The prefix and its continuation.

    Raises:
        TextError: see `check_prefix`.
    """
    check_prefix(vocab, prefix, allow_unknown)
    backend.set_training(net, False)
    ids = vocab.encode(prefix)
    text = [prefix]
    step = backend.compile(net)
    with backend.without_gradients():
        state = net.begin_state(batch_size=1, device=device)
        for _ in range(length):
            X = backend.asarray(ids[None, :], device)  # (1, T): the prefix, then one by one
            logits, state = step(X, state)
            ids = np.array([choose(backend.to_numpy(logits[-1]))])
            text.append(vocab.to_tokens(ids)[0])
    return "".join(text)
