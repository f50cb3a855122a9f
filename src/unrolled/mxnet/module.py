"""The base class of models on MXNet, a Gluon block."""

from typing import Any, ClassVar

from mxnet import gluon

from unrolled.backends import Backend
from unrolled.backends import mxnet as backend
from unrolled.models import native
from unrolled.training import module


class Module(module.Module, gluon.Block):  # type: ignore[misc]
    """A Gluon block: write ``forward``, or set ``net``.

    Deriving from `gluon.HybridBlock` too, write ``hybrid_forward``; ``hybridize()`` works.
    """

    backend: ClassVar[Backend] = backend
    lr: float

    def forward(self, X: Any, *more: Any) -> Any:
        if isinstance(self, gluon.HybridBlock):
            return gluon.HybridBlock.forward(self, X, *more)
        return super().forward(X, *more)

    def declare(self, name: str, values: Any) -> None:
        """Make a Gluon parameter, and no attribute: ``model.w`` shall be the array."""
        parameter = self.params.get(name, shape=values.shape, dtype=values.dtype)
        parameter.initialize("zeros", ctx=values.ctx)
        parameter.set_data(values.detach())
        self._reg_params[name] = parameter

    def configure_optimizers(self) -> Any:
        """`gluon.Trainer` with ``"sgd"`` at ``self.lr``."""
        return gluon.Trainer(self.collect_params(), "sgd", {"learning_rate": self.lr})


class NativeModel(native.NativeModel, Module):
    pass
