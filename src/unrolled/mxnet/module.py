"""``Module`` for MXNet, a Gluon block to subclass; ``NativeModel`` trains a plain one."""

from typing import Any, ClassVar

import mxnet as mx
from mxnet import gluon

from unrolled.backends import Backend
from unrolled.backends import mxnet as backend
from unrolled.models import native
from unrolled.mxnet.training import SGD
from unrolled.report.board import ProgressBoard
from unrolled.training import module


class Module(module.Module, gluon.Block):  # type: ignore[misc]
    """A Gluon block: write ``forward``, or set ``net``.

    Deriving from `gluon.HybridBlock` too, write ``hybrid_forward``; ``hybridize()`` works.
    """

    backend: ClassVar[Backend] = backend
    board_type = ProgressBoard
    lr: float

    def __setattr__(self, name: str, value: Any) -> None:
        """Blocks in a list are parts of this one too: ``self.rnns = [...]``."""
        super().__setattr__(name, value)
        if isinstance(value, (list, tuple)):
            for i, block in enumerate(value):
                if isinstance(block, gluon.Block):
                    self.register_child(block, f"{name}.{i}")

    def get_scratch_params(self) -> list[Any]:
        """The arrays that this block keeps as attributes, and those of the blocks inside it."""
        own = [value for value in vars(self).values() if isinstance(value, mx.np.ndarray)]
        inside = (b for b in self._children.values() if isinstance(b, Module))
        return own + [array for block in inside for array in block.get_scratch_params()]

    def parameters(self) -> Any:
        """Gluon's ``collect_params()``; with plain arrays to train, a list of all arrays."""
        if not any(array.grad is not None for array in self.get_scratch_params()):
            return self.collect_params()
        return [array for array in backend.parameters(self).values() if array.grad is not None]

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
        """`gluon.Trainer` with ``"sgd"`` at ``self.lr``; ours if there are plain arrays too."""
        self.check_lr()
        params = self.parameters()
        if isinstance(params, list):
            return SGD(params, self.lr)
        return gluon.Trainer(params, "sgd", {"learning_rate": self.lr})


class ArraysModule(Module):
    """A block whose parameters are reached as arrays: ``layer.W``."""

    def __getattr__(self, name: str) -> Any:
        parameters = self.__dict__.get("_reg_params", {})
        if name not in parameters:
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        return parameters[name].data()


class NativeModel(native.NativeModel, Module):
    pass
