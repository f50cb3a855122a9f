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
from typing import NoReturn

from unrolled.backends import torch as backend
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
from unrolled.models.language_model import Scratch
from unrolled.parameters import Parameters
from unrolled.torch.chapter import (
    SeqDataLoader,
    cpu,
    evaluate_loss,
    gpu,
    grad_clipping,
    linreg,
    load_array,
    load_data_time_machine,
    num_gpus,
    predict_ch8,
    seq_data_iter_random,
    seq_data_iter_sequential,
    sgd,
    squared_loss,
    synthetic_data,
    train_ch8,
    train_epoch_ch8,
    try_all_gpus,
    try_gpu,
)
from unrolled.torch.english import (
    RNN,
    RNNLM,
    Classifier,
    RNNLMScratch,
    RNNScratch,
    TimeMachine,
)
from unrolled.torch.lab import (
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
from unrolled.torch.language_model import (
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
from unrolled.torch.layers import RNNModel, recurrent_layer
from unrolled.torch.linear_regression import LinearRegression, LinearRegressionScratch
from unrolled.torch.module import Module, NativeModel
from unrolled.torch.shorthand import (
    arange,
    argmax,
    concat,
    exp,
    float32,
    int32,
    int64,
    matmul,
    normal,
    numpy,
    ones,
    randn,
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
from unrolled.torch.training import (
    SGD,
    DataModule,
    SyntheticRegressionData,
    TextData,
    Trainer,
)
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
    "get_lstm_params",
    "get_params",
    "gpu",
    "grad_clipping",
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
    "normal",
    "num_gpus",
    "numpy",
    "ones",
    "parameters",
    "plot",
    "plt",
    "predict_ch8",
    "randn",
    "read_time_machine",
    "recurrent_layer",
    "reduce_mean",
    "reshape",
    "rnn",
    "seq_data_iter_random",
    "seq_data_iter_sequential",
    "set_figsize",
    "sgd",
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
    "train_epoch_ch8",
    "transpose",
    "try_all_gpus",
    "try_gpu",
    "use_svg_display",
    "zeros",
]


def __getattr__(name: str) -> NoReturn:
    if name == "watch":
        raise AttributeError("watch is in unrolled.watch: from unrolled.watch import watch")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
