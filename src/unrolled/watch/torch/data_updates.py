"""Weights that are moved in a way that PyTorch tells nobody of: through ``.data``."""

import torch

from unrolled.watch.torch.optimizer_steps import Named, norms_of, total

TIMES = 3
"""Moves that are seen before it is said: some optimizers move weights to and fro in a step."""

UNTOLD = (
    f"the weights have moved {TIMES} times, and no step was seen: PyTorch tells nobody of weights "
    "that are moved through .data, and records are made at steps. Call watched.step() after every "
    "update, or leave .data out: with torch.no_grad(): p.add_(p.grad, alpha=-lr)"
)


class UntoldMoves:
    """Compares weights before and after, as long as no step was seen."""

    def __init__(self) -> None:
        self.times = 0
        self.before: tuple[dict[str, int], float] | None = None

    def after_backward(self, parameters: Named) -> None:
        """Remember how a backward pass has left these."""
        if self.times < TIMES:
            self.before = _look(parameters)

    def have_come(self, parameters: Named) -> bool:
        """Whether they have moved often enough by now for it to be said, which is once."""
        if self.before is None:
            return False
        (versions, norm), self.before = self.before, None
        now = _look({name: parameters[name] for name in versions if name in parameters})
        self.times += now is not None and now[0] == versions and now[1] != norm
        return self.times == TIMES


def _look(parameters: Named) -> tuple[dict[str, int], float] | None:
    """How often each was written to, and the norm of all; None if they hold no numbers."""
    if not parameters or any(p.is_meta for p in parameters.values()):
        return None
    versions = {name: p._version for name, p in parameters.items()}
    with torch.no_grad():
        return versions, total(norms_of(list(parameters.values()))).item()
