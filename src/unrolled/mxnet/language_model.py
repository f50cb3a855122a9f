"""``LanguageModel`` for MXNet; the computation is in `unrolled.models.language_model`."""

from typing import Any

from unrolled.backends import mxnet as backend
from unrolled.models import language_model
from unrolled.mxnet.module import Module
from unrolled.mxnet.training import SGD


class OnOneDevice:
    """What MXNet adds to a language model from scratch: one device, and ids that are integers."""

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        state = super().begin_state(batch_size, device)  # type: ignore[misc]
        return backend.to_device(state, self.weights()[0].ctx)  # type: ignore[attr-defined]

    def forward(self, X: Any, state: Any = None) -> Any:
        if len(X.shape) == 2:  # ids, which MXNet makes floats of where nobody says better
            X = X.astype("int64")
        return super().forward(X, state)  # type: ignore[misc]

    def configure_optimizers(self) -> SGD:
        return SGD(backend.parameters(self).values(), self.lr)  # type: ignore[attr-defined]


class LanguageModel(OnOneDevice, language_model.LanguageModel, Module):
    pass
