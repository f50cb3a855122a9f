"""Recurrent language models written out, on TensorFlow's variables."""

from collections.abc import Callable
from inspect import signature
from typing import Any

# isort: split
import tensorflow as tf

from unrolled.models import language_model
from unrolled.tensorflow.module import VariablesModule
from unrolled.tensorflow.training import SGD


def without_device(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """A function of two sizes and a device, which the books leave out for TensorFlow."""
    if function is None or len(signature(function).parameters) != 2:
        return function
    return lambda first, second, device=None: function(first, second)


class RNNModelScratch(language_model.RNNModelScratch, VariablesModule):
    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any = None,
        get_params: Any = None,
        init_state: Any = None,
        forward_fn: Any = None,
        lr: float = 1.0,
    ) -> None:
        if callable(device):  # the order that the books have for TensorFlow
            init_state, forward_fn, get_params, device = device, get_params, init_state, None
        functions = without_device(get_params), without_device(init_state), forward_fn
        super().__init__(vocab_size, num_hiddens, device, *functions, lr)

    @property
    def runs_eagerly(self) -> bool:
        """A function of a reader's own need not be one that TensorFlow can compile."""
        return super().runs_eagerly or not getattr(self.forward_fn, "takes_indices", False)

    def forward(self, X: Any, state: Any = None) -> Any:
        return super().forward(tf.convert_to_tensor(X), state)

    def begin_state(self, batch_size: int = 1, device: Any = None, dtype: Any = None) -> Any:
        return super().begin_state(batch_size, device)

    def configure_optimizers(self) -> SGD:
        return SGD(self.lr)
