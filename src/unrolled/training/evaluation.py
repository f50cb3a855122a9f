"""`mean_cross_entropy` of a language model on a whole text, with the state carried along."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from unrolled.backends import Backend
from unrolled.data.shards import Corpus, release, windows
from unrolled.data.vocabulary import indices


def mean_cross_entropy(
    backend: Backend,
    model: Any,
    ids: Corpus,
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
    firsts = np.arange(streams, dtype=np.int64) * length
    evaluate = backend.compile(model.loss_and_state)
    total, read, state = 0.0, 0, None
    with backend.evaluating(model), backend.without_gradients():
        for start in going_through(range(0, length, num_steps)):
            steps = min(num_steps, length - start)
            XY = windows(ids, firsts + start, steps + 1)
            batch = tuple(backend.asarray(indices(Z), device) for Z in (XY[:, :-1], XY[:, 1:]))
            loss, state = evaluate(batch, state)
            total, read = total + float(loss) * streams * steps, read + streams * steps
            release(ids)
    return total / read if read == streams * length else None
