"""`mean_cross_entropy` of a language model on a whole text, with the state carried along."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from unrolled.backends import Backend
from unrolled.data.tokens import indices, release
from unrolled.data.vocabulary import Ids


def mean_cross_entropy(
    backend: Backend,
    model: Any,
    ids: Ids,
    batch_size: int,
    num_steps: int,
    device: Any = None,
    going_through: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> float | None:
    """Mean cross-entropy in nats of the tokens of a text, given those before them.

    The text is cut into ``batch_size`` contiguous streams (fewer if it is short), each
    read from its start to its end with the state carried along. What stands before a stream is
    not known in it, and fewer than ``batch_size`` tokens at the end of the text are left out.
    """
    if len(ids) < 2:
        return None
    streams = max(1, min(batch_size, (len(ids) - 1) // num_steps))
    length = (len(ids) - 1) // streams
    X = ids[: streams * length].reshape(streams, length)
    Y = ids[1 : streams * length + 1].reshape(streams, length)
    evaluate = backend.compile(model.loss_and_state)
    total, read, state = 0.0, 0, None
    with backend.evaluating(model), backend.without_gradients():
        for start in going_through(range(0, length, num_steps)):
            part = slice(start, start + num_steps)
            batch = tuple(backend.asarray(indices(Z[:, part]), device) for Z in (X, Y))
            loss, state = evaluate(batch, state)
            total, read = total + float(loss) * Y[:, part].size, read + Y[:, part].size
            release(ids)
    return total / read if read == Y.size else None
