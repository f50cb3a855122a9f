"""`CompileOnce` compiles a model when it is first seen, not for every text or evaluation."""

from typing import Any

from unrolled.backends import Backend


class CompileOnce:
    """Gives a model compiled; it is compiled again only when it is another object, as in JAX."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._model: Any = None
        self._compiled: Any = None

    def __call__(self, model: Any) -> Any:
        if model is not self._model:
            self._model, self._compiled = model, self._backend.compile(model)
        return self._compiled
