"""unrolled on JAX: ``from unrolled import jax``.

The models are Flax Linen dataclass modules and the optimizers Optax transformations. What
they compute is written once for all frameworks, in `unrolled.functional`,
`unrolled.training` and `unrolled.models`; here is only what is JAX's own.

A Linen module describes a model and holds no values. They live in
``trainer.state.params``; ``trainer.bound_model`` is the module bound to them, which can
be called.

Example:
    >>> from unrolled import jax
    >>> data = jax.SyntheticRegressionData(w=[2, -3.4], b=4.2, seed=0)
    >>> model = jax.LinearRegressionScratch(num_inputs=2, lr=0.03, seed=0)
    >>> trainer = jax.Trainer(max_epochs=3)
    >>> trainer.fit(model, data)
    >>> b = trainer.state.params["b"].item()
    >>> 3.9 < b < 4.1  # three epochs are few: 5% of 4.2 is still missing
    True
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from unrolled.backends import jax as _backend
from unrolled.data.vocabulary import Vocab as Vocab
from unrolled.hyperparameters import HyperParameters as HyperParameters
from unrolled.hyperparameters import add_to_class as add_to_class
from unrolled.jax.data_parallel import data_parallel as data_parallel
from unrolled.jax.language_model import LanguageModel as LanguageModel
from unrolled.jax.linear_regression import LinearRegression as LinearRegression
from unrolled.jax.linear_regression import LinearRegressionScratch as LinearRegressionScratch
from unrolled.jax.listing import Parameters
from unrolled.jax.module import Module as Module
from unrolled.jax.module import NativeModel as NativeModel
from unrolled.jax.rnn_model import RNNModel as RNNModel
from unrolled.jax.rnn_model import recurrent_layer as recurrent_layer
from unrolled.jax.training import SGD as SGD
from unrolled.jax.training import DataModule as DataModule
from unrolled.jax.training import SyntheticRegressionData as SyntheticRegressionData
from unrolled.jax.training import TextData as TextData
from unrolled.jax.training import Trainer as Trainer
from unrolled.public_names import OWN, no_such_name
from unrolled.report.board import ProgressBoard as ProgressBoard
from unrolled.training.checkpointing import Checkpointing as Checkpointing

backend, parameters = _backend, partial(Parameters, _backend)
__all__ = list(OWN)

if not TYPE_CHECKING:  # a type checker sees the imports above, and nothing else is there

    def __getattr__(name: str) -> Any:
        raise no_such_name(__name__, name)
