"""*Dive into Deep Learning*'s names for TensorFlow's functions: ``d2l.matmul``, ``d2l.ones``."""

from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import tensorflow as tf

arange, ones, zeros, tensor = tf.range, tf.ones, tf.zeros, tf.constant
normal = tf.random.normal
exp, sin, tanh, sigmoid = tf.exp, tf.sin, tf.tanh, tf.sigmoid
matmul, concat, stack = tf.matmul, tf.concat, tf.stack
reduce_mean, argmax = tf.reduce_mean, tf.argmax
reshape, transpose, swapaxes = tf.reshape, tf.transpose, tf.experimental.numpy.swapaxes
float32, int32, int64 = tf.float32, tf.int32, tf.int64
numpy, to = backend.to_numpy, backend.to_device


def randn(*shape: int) -> tf.Tensor:
    """Draws from ``N(0, 1)``."""
    return tf.random.normal(shape)


def size(x: tf.Tensor) -> int:
    """How many numbers there are."""
    return int(tf.size(x))
