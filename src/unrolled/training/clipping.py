"""The part of the trainer that clips gradients, also by a reader's own `clip_gradients`."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from unrolled.backends import Backend
from unrolled.functional.updates import global_norm


class Clipping:
    """The part of a trainer that clips; a reader may call or replace `clip_gradients`."""

    backend: ClassVar[Backend]
    model: Any
    parameters: dict[str, Any]
    gradient_clip_val: float
    gradient_clip_method: str
    reader_clips: bool
    _clip: Callable[..., tuple[Any, Any, Any]]

    def clipped(self, gradients: Any, limit: float | None = None) -> tuple[Any, Any, Any]:
        """The gradients by name, clipped at a limit above 0; their norms before and after it."""
        limit = self.gradient_clip_val if limit is None else limit
        parameters = self.parameters if self.gradient_clip_method == "adaptive" else {}
        return self._clip(gradients, parameters, limit if limit > 0 else math.inf)

    def clip_gradients(self, grad_clip_val: float, model: Any) -> Any:
        """Clip the gradients that a model holds, in place: for a `fit_epoch` of one's own.

        A subclass, or a notebook, may put another one here: every training step then calls it,
        if ``gradient_clip_val`` is above 0, and takes what it leaves as the gradients.
        """
        parameters = self.backend.parameters(model)
        held = {name: self.backend.gradient(p) for name, p in parameters.items()}
        gradients = {name: g for name, g in held.items() if g is not None}
        self.backend.assign(gradients, self.clipped(gradients, grad_clip_val)[0])

    def clip(self, gradients: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
        """The gradients before and after clipping, and the norms of both."""
        if not self.reader_clips:
            return gradients, *self.clipped(gradients)
        xp = self.backend.xp
        before = self.backend.snapshot(gradients)  # they may be changed in place
        norm = global_norm(xp, before.values())
        with self.backend.without_gradients():
            clipped = self.clipped_by_reader(gradients)
        return before, clipped, norm, global_norm(xp, clipped.values())

    def clipped_by_reader(self, gradients: Mapping[str, Any]) -> dict[str, Any]:
        """What a reader's `clip_gradients` makes of the gradients: it finds them in the model."""
        self.clip_gradients(self.gradient_clip_val, self.model)
        held = {name: self.backend.gradient(self.parameters[name]) for name in gradients}
        return {name: gradient for name, gradient in held.items() if gradient is not None}
