"""unrolled on PyTorch: ``from unrolled import torch``.

The models are `torch.nn.Module`s, so PyTorch's own tools work on them: ``parameters()``,
``state_dict()``, ``to(device)``, ``torch.optim``. What they compute is written once for
all frameworks, in `unrolled.functional`, `unrolled.training` and `unrolled.models`; here
is only what is PyTorch's own.

Example:
    >>> from unrolled import torch
    >>> data = torch.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = torch.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> torch.Trainer(max_epochs=3).fit(model, data)
    >>> 3.9 < model.b.item() < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from unrolled.backends import torch as _backend
from unrolled.data.vocabulary import Vocab as Vocab
from unrolled.hyperparameters import HyperParameters as HyperParameters
from unrolled.hyperparameters import add_to_class as add_to_class
from unrolled.parameters import Parameters
from unrolled.public_names import OWN, no_such_name
from unrolled.report.board import ProgressBoard as ProgressBoard
from unrolled.torch.data_parallel import data_parallel as data_parallel
from unrolled.torch.language_model import LanguageModel as LanguageModel
from unrolled.torch.linear_regression import LinearRegression as LinearRegression
from unrolled.torch.linear_regression import LinearRegressionScratch as LinearRegressionScratch
from unrolled.torch.module import Module as Module
from unrolled.torch.module import NativeModel as NativeModel
from unrolled.torch.rnn_model import RNNModel as RNNModel
from unrolled.torch.rnn_model import recurrent_layer as recurrent_layer
from unrolled.torch.training import SGD as SGD
from unrolled.torch.training import DataModule as DataModule
from unrolled.torch.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.torch.training import TextData as TextData
from unrolled.torch.training import Trainer as Trainer
from unrolled.training.checkpointing import Checkpointing as Checkpointing

backend, parameters = _backend, partial(Parameters, _backend)
__all__ = list(OWN)

if not TYPE_CHECKING:  # a type checker sees the imports above, and nothing else is there

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
