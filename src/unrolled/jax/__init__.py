"""unrolled on JAX: ``from unrolled import jax``.

The models are Flax Linen dataclass modules and the optimizers Optax transformations. What
they compute is written once for all frameworks, in `unrolled.functional`,
`unrolled.training` and `unrolled.models`; here is only what is JAX's own.

A Linen module describes a model and holds no values. They live in
``trainer.state.params``; ``trainer.trained_model`` is the module bound to them, which can
be called. (``grad_clipping`` and ``train_epoch_ch8`` change arrays in place and so have no
meaning here; ``train_ch8`` returns the trained network.)

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
from typing import NoReturn

from unrolled.backends import jax as backend
from unrolled.books.downloads import DATA_HUB, DATA_URL, download
from unrolled.books.tools import (
    Accumulator,
    Animator,
    Timer,
    check_len,
    check_shape,
    plot,
    plt,
    set_figsize,
    use_svg_display,
)
from unrolled.data.digit_sum import generate_data, load_data
from unrolled.data.text import load_corpus_time_machine, read_time_machine, tokenize
from unrolled.data.vocabulary import Vocab
from unrolled.jax.chapter import (
    SeqDataLoader,
    cpu,
    evaluate_loss,
    gpu,
    linreg,
    load_array,
    load_data_time_machine,
    num_gpus,
    predict_ch8,
    seq_data_iter_random,
    seq_data_iter_sequential,
    squared_loss,
    synthetic_data,
    train_ch8,
    try_all_gpus,
    try_gpu,
)
from unrolled.jax.english import (
    RNN,
    RNNLM,
    Classifier,
    RNNLMScratch,
    RNNScratch,
    TimeMachine,
)
from unrolled.jax.lab import (
    GRU,
    LSTM,
    SRN,
    Accuracy,
    BiGRU,
    BiLSTM,
    BiSRN,
    DigitSumData,
    DigitSumDataset,
    Embedding,
    Linear,
    Model_RNN4SeqClass,
    RunnerV3,
)
from unrolled.jax.language_model import (
    RNNModelScratch,
    get_gru_params,
    get_lstm_params,
    get_params,
    gru,
    init_gru_state,
    init_lstm_state,
    init_rnn_state,
    lstm,
    rnn,
)
from unrolled.jax.layers import RNNModel, recurrent_layer
from unrolled.jax.linear_regression import LinearRegression, LinearRegressionScratch
from unrolled.jax.listing import Parameters
from unrolled.jax.module import Module, NativeModel
from unrolled.jax.shorthand import (
    arange,
    argmax,
    concat,
    exp,
    float32,
    get_key,
    get_seed,
    int32,
    int64,
    matmul,
    numpy,
    ones,
    reduce_mean,
    reshape,
    sigmoid,
    sin,
    size,
    stack,
    swapaxes,
    tanh,
    tensor,
    to,
    transpose,
    zeros,
)
from unrolled.jax.training import (
    SGD,
    DataModule,
    SyntheticRegressionData,
    TextData,
    Trainer,
)
from unrolled.models.language_model import Scratch
from unrolled.training.board import ProgressBoard
from unrolled.training.hyperparameters import HyperParameters, add_to_class
from unrolled.training.metrics import Metric

parameters = partial(Parameters, backend)

__all__ = [
    "DATA_HUB",
    "DATA_URL",
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "SGD",
    "SRN",
    "Accumulator",
    "Accuracy",
    "Animator",
    "BiGRU",
    "BiLSTM",
    "BiSRN",
    "Classifier",
    "DataModule",
    "DigitSumData",
    "DigitSumDataset",
    "Embedding",
    "HyperParameters",
    "Linear",
    "LinearRegression",
    "LinearRegressionScratch",
    "Metric",
    "Model_RNN4SeqClass",
    "Module",
    "NativeModel",
    "ProgressBoard",
    "RNNLMScratch",
    "RNNModel",
    "RNNModelScratch",
    "RNNScratch",
    "RunnerV3",
    "Scratch",
    "SeqDataLoader",
    "SyntheticRegressionData",
    "TextData",
    "TimeMachine",
    "Timer",
    "Trainer",
    "Vocab",
    "add_to_class",
    "arange",
    "argmax",
    "backend",
    "check_len",
    "check_shape",
    "concat",
    "cpu",
    "download",
    "evaluate_loss",
    "exp",
    "float32",
    "generate_data",
    "get_gru_params",
    "get_key",
    "get_lstm_params",
    "get_params",
    "get_seed",
    "gpu",
    "gru",
    "init_gru_state",
    "init_lstm_state",
    "init_rnn_state",
    "int32",
    "int64",
    "linreg",
    "load_array",
    "load_corpus_time_machine",
    "load_data",
    "load_data_time_machine",
    "lstm",
    "matmul",
    "num_gpus",
    "numpy",
    "ones",
    "parameters",
    "plot",
    "plt",
    "predict_ch8",
    "read_time_machine",
    "recurrent_layer",
    "reduce_mean",
    "reshape",
    "rnn",
    "seq_data_iter_random",
    "seq_data_iter_sequential",
    "set_figsize",
    "sigmoid",
    "sin",
    "size",
    "squared_loss",
    "stack",
    "swapaxes",
    "synthetic_data",
    "tanh",
    "tensor",
    "to",
    "tokenize",
    "train_ch8",
    "transpose",
    "try_all_gpus",
    "try_gpu",
    "use_svg_display",
    "zeros",
]


def __getattr__(name: str) -> NoReturn:
    if name in ("watch", "tap"):
        raise AttributeError(
            f"{name} is in a package of its own: from unrolled.watch import {name}"
        )
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
