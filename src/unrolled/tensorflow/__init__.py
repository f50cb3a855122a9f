"""unrolled on TensorFlow: ``from unrolled import tensorflow``.

Models written out in equations are `tf.Module`s that hold `tf.Variable`s; models of
Keras layers are `keras.Model`s. So TensorFlow's own tools work on them:
``trainable_variables``, `tf.GradientTape`, `keras.optimizers`, `tf.train.Checkpoint`.
What they compute is written once for all frameworks, in `unrolled.functional`,
`unrolled.training` and `unrolled.models`; here is only what is TensorFlow's own.

Example:
    >>> from unrolled import tensorflow
    >>> data = tensorflow.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = tensorflow.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> tensorflow.Trainer(max_epochs=3).fit(model, data)
    >>> 3.9 < float(model.b[0]) < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from unrolled.backends import tensorflow as _backend
from unrolled.data.vocabulary import Vocab as Vocab
from unrolled.hyperparameters import HyperParameters as HyperParameters
from unrolled.hyperparameters import add_to_class as add_to_class
from unrolled.parameters import Parameters
from unrolled.public_names import OWN, no_such_name
from unrolled.report.board import ProgressBoard as ProgressBoard
from unrolled.tensorflow.data_parallel import data_parallel as data_parallel
from unrolled.tensorflow.language_model import LanguageModel as LanguageModel
from unrolled.tensorflow.linear_regression import LinearRegression as LinearRegression
from unrolled.tensorflow.linear_regression import LinearRegressionScratch as LinearRegressionScratch
from unrolled.tensorflow.module import Module as Module
from unrolled.tensorflow.module import NativeModel as NativeModel
from unrolled.tensorflow.rnn_model import RNNModel as RNNModel
from unrolled.tensorflow.rnn_model import recurrent_layer as recurrent_layer
from unrolled.tensorflow.training import SGD as SGD
from unrolled.tensorflow.training import DataModule as DataModule
from unrolled.tensorflow.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.tensorflow.training import TextData as TextData
from unrolled.tensorflow.training import Trainer as Trainer
from unrolled.training.checkpointing import Checkpointing as Checkpointing

backend, parameters = _backend, partial(Parameters, _backend)
__all__ = list(OWN)

if not TYPE_CHECKING:  # a type checker sees the imports above, and nothing else is there

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
