"""Training throughput on TensorFlow: the from-scratch RNN beside Keras' own ``fit``.

``python benchmarks/throughput_tensorflow.py --help``; for what is compared, and how, see
``common.py``. Keras gets its one-hot inputs made before the clock starts; its `fit` begins
every minibatch at the zero state, where ours carries the state over.
"""

from collections.abc import Callable

import numpy as np
from common import NUM_STEPS, Batches, Competitor, race, trained

from unrolled import tensorflow as unrolled

# isort: split
import keras


def keras_fit(vocab_size: int, num_hiddens: int) -> Competitor:
    """A model of Keras layers under `keras.Model.fit`, compiled as Keras has it."""
    model = keras.Sequential(
        [
            keras.Input((NUM_STEPS, vocab_size)),
            keras.layers.SimpleRNN(num_hiddens, return_sequences=True),
            keras.layers.Dense(vocab_size),
        ]
    )
    model.compile(
        keras.optimizers.SGD(1.0, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def ready(batches: Batches) -> Callable[[], None]:
        X = np.concatenate([X.numpy() for X, _ in batches])
        Y = np.concatenate([Y.numpy() for _, Y in batches])
        one_hot = np.eye(vocab_size, dtype=np.float32)[X]  # (N, T, V)
        batch_size = len(batches[0][0])

        def epoch() -> None:
            model.fit(one_hot, Y, batch_size=batch_size, shuffle=False, verbose=0)

        return epoch

    return ready


def competitors(V: int, H: int, data: unrolled.TextData) -> dict[str, Competitor]:
    layer = unrolled.recurrent_layer("rnn", V, H)
    return {
        "Keras fit": keras_fit(V, H),
        "unrolled, from scratch": trained(unrolled, unrolled.RNNModelScratch(V, H), data),
        "SimpleRNN in unrolled": trained(unrolled, unrolled.RNNModel(layer, V), data),
    }


if __name__ == "__main__":
    race(__doc__.splitlines()[0], unrolled, competitors)
