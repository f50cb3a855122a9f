"""Generate text with a language model: greedy, or drawn by temperature, top-k and top-p."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.backends import Backend
from unrolled.data.vocabulary import Vocab
from unrolled.errors import SettingError, TextError, check_seed
from unrolled.functional import sampling
from unrolled.functional.sampling import Draw
from unrolled.models.stepping import NativeStepper, stepper_of

Choose = Callable[[Any], int]

WINDOW = 64
"""Tokens that a model reads at once when it checks a text."""

UNKNOWN_ALLOWED = ", or let them count as <unk> with --allow-unknown"


def check_begins(prefix: Sequence[str]) -> None:
    """Make sure that there is something to continue from."""
    if not prefix:
        raise TextError("the prefix is empty; give at least one character to continue from")


def check_prefix(vocab: Vocab, prefix: str, allow_unknown: bool = False, way_out: str = "") -> None:
    """Make sure that a text can be continued."""
    check_begins(prefix)
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
            f"{len(vocab)} tokens: {names}.{better}{way_out}"
        )


def chooser(
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | Sequence[int] = 0,
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
    if isinstance(seed, int):
        check_seed(seed)
    if temperature is None and top_k is None and top_p is None:
        return sampling.greedy
    temperature = 1.0 if temperature is None else temperature
    sampling.check_ranges(temperature, top_k, top_p)
    rng = np.random.default_rng(seed)
    return sampling.Draw(rng, temperature, top_k, top_p)


def choosers(count: int, seed: int = 0, **options: Any) -> list[Choose]:
    """How to choose the next token of each of several texts.

    Each draws for itself, so that a text does not depend on how many others are written;
    the first draws what a single one would.
    """
    choose = chooser(**options, seed=seed)
    if count > 1 and (choose is sampling.greedy or options.get("temperature") == 0):
        raise SettingError(
            f"all {count} texts would be the same: nothing is drawn. Give a way of drawing, "
            "for example --temperature 1"
        )
    return [choose, *(chooser(**options, seed=[seed, i]) for i in range(1, count))]


def generate(
    backend: Backend,
    net: Any,
    vocab: Vocab,
    prefix: str,
    length: int,
    choose: Choose = sampling.greedy,
    device: Any = None,
    allow_unknown: bool = False,
    forward: Callable[..., Any] | None = None,
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
        forward: ``net`` compiled, for who writes many texts; None compiles it for this one.

    Returns:
        The prefix and its continuation.

    Raises:
        TextError: see `check_prefix`.
    """
    rest = device, allow_unknown, forward
    (text,) = generate_batch(backend, net, vocab, [prefix], length, [choose], *rest)
    return text


def generate_batch(
    backend: Backend,
    net: Any,
    vocab: Vocab,
    prefixes: Sequence[str],
    length: int,
    choose: Sequence[Choose] | None = None,
    device: Any = None,
    allow_unknown: bool = False,
    forward: Callable[..., Any] | None = None,
) -> list[str]:
    """Continue several texts side by side, as `generate` does one.

    Prefixes may differ in length: all texts are read in step, and where a prefix ends,
    its continuation begins while longer prefixes are still being read.

    Args:
        backend, net, vocab, length, device, allow_unknown, forward: as of `generate`.
        prefixes: the texts to continue.
        choose: of each text, ``logits (V,) -> id``; None is greedy for all.

    Returns:
        The prefixes, each with its continuation.

    Raises:
        TextError: see `check_prefix`.
    """
    for prefix in prefixes:
        check_prefix(vocab, prefix, allow_unknown, UNKNOWN_ALLOWED)
    texts = [vocab.encode(prefix).tolist() for prefix in prefixes]
    texts = continue_ids(backend, net, texts, length, choose, device, forward)
    continued = ("".join(vocab.to_tokens(text[-length:])) if length > 0 else "" for text in texts)
    return [prefix + more for prefix, more in zip(prefixes, continued, strict=True)]


def continue_ids(
    backend: Backend,
    net: Any,
    texts: list[list[int]],
    length: int,
    choose: Sequence[Choose] | None = None,
    device: Any = None,
    forward: Callable[..., Any] | None = None,
) -> list[list[int]]:
    """Continue several texts side by side, as ids."""
    choose = choose or [sampling.greedy] * len(texts)
    if length <= 0 or not texts:
        return texts
    with backend.evaluating(net), backend.without_gradients():
        model = _Model(backend, net, forward or backend.compile(net), device, len(texts))
        # one of the reader's own is asked once for each token, by the model itself
        known = all(choice is sampling.greedy or isinstance(choice, Draw) for choice in choose)
        stepper = stepper_of(net) if known else None
        if stepper is not None:
            checking, again = deepcopy(choose), deepcopy(choose)
            written = [
                _write_alone(stepper, [*text], length, choice)
                for text, choice in zip(texts, choose, strict=True)
            ]
            if model.would_write(written, [*map(len, texts)], checking):
                texts[:] = written
                return texts
            choose = again
        return _write(model, model.begin_state(), texts, length, choose)


def _write_alone(stepper: NativeStepper, text: list[int], length: int, choice: Choose) -> list[int]:
    """Continue one text by the native kernels: in one call, or token by token."""
    state = stepper.begin_state()
    written = stepper.write(text, length, choice, state)
    return text + written if written else _write(stepper, state, [text], length, [choice])[0]


def _write(
    step: Any, state: Any, texts: list[list[int]], length: int, choose: Sequence[Choose]
) -> list[list[int]]:
    """Continue texts by ``step(X (B, T), state) -> (logits (B, V) of the last, state)``."""
    ends = [len(text) + length for text in texts]
    start = min(map(len, texts))  # all are fed so far at once, then one by one
    X = np.array([text[:start] for text in texts])  # (B, T)
    for fed in range(start, max(ends)):
        logits, state = step(X, state)  # (B, V)
        for text, end, row, choice in zip(texts, ends, logits, choose, strict=True):
            if len(text) == fed < end:
                text.append(choice(row))
        X = np.array([[text[min(fed, len(text) - 1)]] for text in texts])  # (B, 1)
    return texts


class _Model:
    """A model that writes by itself, or checks what a stepper wrote in its place."""

    def __init__(
        self, backend: Backend, net: Any, forward: Any, device: Any, batch_size: int
    ) -> None:
        self.backend, self.net, self.forward = backend, net, forward
        self.device, self.B = device, batch_size

    def begin_state(self) -> Any:
        return self.net.begin_state(batch_size=self.B, device=self.device)

    def __call__(self, X: npt.NDArray[Any], state: Any) -> tuple[npt.NDArray[Any], Any]:
        """Logits ``(B, V)`` after the last of the ids ``(B, T)``, and the state."""
        logits, state = self._logits(X, state)
        return logits[-self.B :], state

    def _logits(self, X: npt.NDArray[Any], state: Any) -> tuple[npt.NDArray[Any], Any]:
        logits, state = self.forward(self.backend.asarray(X, self.device), state)
        return self.backend.to_numpy(logits), state  # (T * B, V)

    def windows(self, texts: Sequence[Sequence[int]]) -> Iterator[npt.NDArray[Any]]:
        """Logits ``(B, V)`` after each id of texts, read in windows of one length.

        One length, because frameworks compile for each; the last window is filled up with ids
        whose logits nobody sees.
        """
        T, state = max(map(len, texts)), self.begin_state()
        filled = np.zeros((self.B, -(-T // WINDOW) * WINDOW), int)
        for row, text in zip(filled, texts, strict=True):
            row[: len(text)] = text
        for start in range(0, T, WINDOW):
            logits, state = self._logits(filled[:, start : start + WINDOW], state)
            yield from logits.reshape(WINDOW, self.B, -1)[: T - start]

    def would_write(
        self, texts: list[list[int]], starts: Sequence[int], choose: Sequence[Choose]
    ) -> bool:
        """Whether the model itself would choose every token that follows the starts of texts."""
        rows = self.windows([text[:-1] for text in texts])
        return all(
            choice(row) == text[t]
            for t, logits in enumerate(rows, 1)
            for text, start, row, choice in zip(texts, starts, logits, choose, strict=True)
            if start <= t < len(text)
        )
