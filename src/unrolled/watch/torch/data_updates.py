"""`DataUpdates` decides when to warn that weights move by hand (``.data``) and no step is seen."""

import torch

from unrolled.watch.torch.step import Named, norms_of

TIMES = 3
"""Moves that are seen before it is said: some optimizers move weights to and fro in a step."""

UNTOLD = (
    f"the weights have moved {TIMES} times, and no step was seen: records are made at steps of "
    "optimizers, and PyTorch tells nobody of weights that are moved by hand, as through .data. "
    "Call watched.step() after every update"
)


class DataUpdates:
    """Compares the weights at the beginning of backward passes, as long as no step was seen."""

    def __init__(self) -> None:
        self.times = 0
        self.before: dict[str, torch.Tensor] = {}

    def after_backward(self, parameters: Named) -> None:
        """Remember the norms of these, of those that the gradient says to move."""
        have = {n: p for n, p in parameters.items() if p.grad is not None and not p.is_meta}
        self.before = {}
        if self.times < TIMES and have:
            slopes = norms_of([p.grad for p in have.values() if p.grad is not None])
            norms = zip(have, norms_of(list(have.values())), slopes, strict=True)
            self.before = {name: norm for name, norm, slope in norms if slope > 0}

    def have_come(self, parameters: Named) -> bool:
        """Return True once: when all weights have moved often enough for a warning."""
        before = {name: norm for name, norm in self.before.items() if name in parameters}
        self.before = {}
        if not before:
            return False
        now = norms_of([parameters[name] for name in before])
        self.times += all(a != b for a, b in zip(now, before.values(), strict=True))
        return self.times == TIMES
