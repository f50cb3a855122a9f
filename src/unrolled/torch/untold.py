"""Weights that are moved in a way that PyTorch tells nobody of: through ``.data``."""

import torch

from unrolled.torch.steps import Named, norms_of, total

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
        self.before: tuple[dict[str, int], torch.Tensor] | None = None

    def after_backward(self, parameters: Named) -> None:
        """Remember how a backward pass has left these."""
        if parameters and self.times < TIMES:
            self.before = self._now(parameters)

    def have_come(self, parameters: Named) -> bool:
        """Whether they have moved often enough by now for it to be said, which is once."""
        if self.before is None:
            return False
        (versions, norm), self.before = self.before, None
        same = {name: parameters[name] for name in versions if name in parameters}
        now = self._now(same) if same.keys() == versions.keys() else self.before
        self.times += now is not None and now[0] == versions and bool(now[1] != norm)
        return self.times == TIMES

    @staticmethod
    def _now(parameters: Named) -> tuple[dict[str, int], torch.Tensor]:
        versions = {name: p._version for name, p in parameters.items()}
        return versions, total(norms_of(list(parameters.values())))
