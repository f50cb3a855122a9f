"""Recurrent language models written out, on MXNet's arrays."""

from typing import Any

from mxnet import gluon

from unrolled.backends import mxnet as backend
from unrolled.models import language_model
from unrolled.mxnet.module import Module
from unrolled.mxnet.training import SGD


class RNNModelScratch(language_model.RNNModelScratch, Module):
    params = gluon.Block.params  # what Gluon lists; their arrays: weights()

    def begin_state(self, batch_size: int = 1, device: Any = None, ctx: Any = None) -> Any:
        state = super().begin_state(batch_size, device or ctx)
        return backend.to_device(state, self.weights()[0].ctx)

    def forward(self, X: Any, state: Any = None) -> Any:
        if len(X.shape) == 2:  # ids, which MXNet makes floats of where nobody says better
            X = X.astype("int64")
        return super().forward(X, state)

    def configure_optimizers(self) -> SGD:
        return SGD(backend.parameters(self).values(), self.lr)
