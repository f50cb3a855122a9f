"""unrolled on MXNet: ``from unrolled import mxnet``.

The models are Gluon blocks, so MXNet's own tools work on them: ``collect_params()``,
``save_parameters()``, `autograd.record`, `gluon.Trainer`. What they compute is written
once for all frameworks, in `unrolled.functional`, `unrolled.training` and
`unrolled.models`; here is only what is MXNet's own.

Arrays are those of ``mx.np``; importing this switches MXNet's NumPy interface on.

Example:
    >>> from unrolled import mxnet
    >>> data = mxnet.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = mxnet.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> mxnet.Trainer(max_epochs=3).fit(model, data)
    >>> 3.9 < model.b.item() < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from unrolled.backends import mxnet as _backend
from unrolled.data.vocabulary import Vocab as Vocab
from unrolled.hyperparameters import HyperParameters as HyperParameters
from unrolled.hyperparameters import add_to_class as add_to_class
from unrolled.mxnet.data_parallel import data_parallel as data_parallel
from unrolled.mxnet.language_model import LanguageModel as LanguageModel
from unrolled.mxnet.linear_regression import LinearRegression as LinearRegression
from unrolled.mxnet.linear_regression import LinearRegressionScratch as LinearRegressionScratch
from unrolled.mxnet.module import Module as Module
from unrolled.mxnet.module import NativeModel as NativeModel
from unrolled.mxnet.rnn_model import RNNModel as RNNModel
from unrolled.mxnet.rnn_model import recurrent_layer as recurrent_layer
from unrolled.mxnet.training import SGD as SGD
from unrolled.mxnet.training import DataModule as DataModule
from unrolled.mxnet.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.mxnet.training import TextData as TextData
from unrolled.mxnet.training import Trainer as Trainer
from unrolled.parameters import Parameters
from unrolled.public_names import OWN, no_such_name
from unrolled.report.board import ProgressBoard as ProgressBoard
from unrolled.training.checkpointing import Checkpointing as Checkpointing

backend, parameters = _backend, partial(Parameters, _backend)
__all__ = list(OWN)

if not TYPE_CHECKING:  # a type checker sees the imports above, and nothing else is there

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
