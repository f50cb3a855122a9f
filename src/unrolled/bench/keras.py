"""The competitor in Keras: its layers under its own `fit`, on TensorFlow."""

from collections.abc import Callable
from typing import Any

import numpy as np

from unrolled.backends import tensorflow as _quiet  # noqa: F401 (first: it keeps imports quiet)
from unrolled.bench.task import CLIP_NORM, LEARNING_RATE, Batch, Competing, Task
from unrolled.models.weights import GATE_ORDERS, join_gates

# isort: split
import keras


def fit(task: Task) -> Competing:
    """A model of Keras' layers under `keras.Model.fit`, compiled as Keras has it.

    It gets its one-hot inputs made before the clock starts. The layer is ``stateful``: it
    carries its state from one minibatch to the next, as all competitors do.
    """
    layers: dict[str, Any] = {
        "rnn": keras.layers.SimpleRNN,
        "gru": keras.layers.GRU,
        "lstm": keras.layers.LSTM,
    }
    recurrent = layers[task.cell](task.H, return_sequences=True, stateful=True)
    linear = keras.layers.Dense(task.V)
    model = keras.Sequential([keras.Input(batch_shape=(task.B, task.T, task.V)), recurrent, linear])
    values, gates = task.values(), GATE_ORDERS["keras"][task.cell]
    kernel_x, kernel_h, bias_x, bias_h = join_gates(task.cell, gates, values)
    # a GRU has a pair of biases (2, G * H), the others one
    bias = np.stack([bias_x, bias_h]) if task.cell == "gru" else bias_x
    recurrent.set_weights([kernel_x, kernel_h, bias])
    linear.set_weights([values["W_hq"], values["b_q"]])
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE, global_clipnorm=CLIP_NORM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def ready(batches: list[Batch]) -> Callable[[], float]:
        X = np.concatenate([X for X, _ in batches])
        Y = np.concatenate([Y for _, Y in batches])
        one_hot = np.eye(task.V, dtype=np.float32)[X]  # (N, T, V)

        def turn() -> float:
            history = model.fit(one_hot, Y, batch_size=task.B, shuffle=False, verbose=0)
            return float(history.history["loss"][-1])  # the mean over the minibatches

        return turn

    return ready
