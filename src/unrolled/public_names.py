"""The table of public names: ours in each framework's module, those of two books in theirs.

``unrolled.torch`` and its siblings import what is in `OWN`. ``unrolled.d2l.torch`` has these and
the names of `D2L`; ``unrolled.nndl.torch`` has `NNDL`.
"""

import dis
import sys

OWN = (
    *("Checkpointing", "DataModule", "HyperParameters", "LanguageModel", "LinearRegression"),
    *("LinearRegressionScratch", "Module", "NativeModel", "ProgressBoard", "RNNModel", "SGD"),
    *("SyntheticRegressionData", "TextData", "Trainer", "Vocab", "add_to_class", "backend"),
    *("data_parallel", "parameters", "recurrent_layer"),
)

D2L = (
    *("Accumulator", "Animator", "Classifier", "DATA_HUB", "DATA_URL", "RNN", "RNNLM"),
    *("RNNLMScratch", "RNNModelScratch", "RNNScratch", "Scratch", "SeqDataLoader", "TimeMachine"),
    *("Timer", "arange", "argmax", "check_len", "check_shape", "concat", "cpu", "download"),
    *("evaluate_loss", "exp", "float32", "get_gru_params", "get_key", "get_lstm_params"),
    *("get_params", "get_seed", "gpu", "grad_clipping", "gru", "init_gru_state"),
    *("init_lstm_state", "init_rnn_state", "int32", "int64", "linreg", "load_array"),
    *("load_corpus_time_machine", "load_data_time_machine", "lstm", "matmul", "normal"),
    *("num_gpus", "numpy", "ones", "plot", "plt", "predict_ch8", "randn", "read_time_machine"),
    *("reduce_mean", "reshape", "rnn", "seq_data_iter_random", "seq_data_iter_sequential"),
    *("set_figsize", "sgd", "sigmoid", "sin", "size", "squared_loss", "stack", "swapaxes"),
    *("synthetic_data", "tanh", "tensor", "to", "tokenize", "train_ch8", "train_epoch_ch8"),
    *("transpose", "try_all_gpus", "try_gpu", "use_svg_display", "zeros"),
)
"""Names of *Dive into Deep Learning*."""

NNDL = (
    *("Accuracy", "BiGRU", "BiLSTM", "BiSRN", "DigitSumData", "DigitSumDataset", "Embedding"),
    *("GRU", "LSTM", "Linear", "Metric", "Model_RNN4SeqClass", "RunnerV3", "SRN"),
    *("generate_data", "load_data"),
)
"""Names of *Neural Networks and Deep Learning*."""

NOT_IN_JAX = {"grad_clipping", "normal", "randn", "sgd", "train_epoch_ch8"}
"""They change arrays in place, or draw from a hidden state; nothing in JAX does."""

ONLY_IN_JAX = {"get_key", "get_seed"}

WATCH = {"tap", "watch"}
"""Names of `unrolled.watch`."""


def names_of_d2l(framework: str) -> set[str]:
    """Return all names of ``unrolled.d2l.<framework>``."""
    left_out = NOT_IN_JAX if framework == "jax" else ONLY_IN_JAX
    return {*OWN, *D2L} - left_out


def no_such_name(module: str, name: str) -> AttributeError | ImportError:
    """Return the error for a name that a public module lacks; it says which module has it.

    For the module's ``__getattr__``. In ``from module import name`` it is an `ImportError`, as
    Python would replace the message of an `AttributeError` by its own. Anywhere else it must be an
    `AttributeError`: ``hasattr`` and pickle, which asks every module, expect no other.

    Example:
        >>> print(no_such_name("unrolled.torch", "RNNLMScratch"))
        module 'unrolled.torch' has no attribute 'RNNLMScratch'; it is in unrolled.d2l.torch: from
        unrolled.d2l import torch as d2l
    """
    framework = module.rpartition(".")[2]
    message = missing = f"module '{module}' has no attribute '{name}'"
    books = {"d2l": names_of_d2l(framework), "nndl": NNDL}
    if name in OWN:
        message += f"; it is in unrolled.{framework}: from unrolled import {framework}"
    elif name in WATCH:
        message += f"; it is in unrolled.watch: from unrolled.watch import {name}"
    elif framework == "jax" and name in NOT_IN_JAX:
        message += ": JAX changes no array in place and has no hidden generator of random numbers"
    else:
        for book, names in books.items():
            if name in names:
                place = f"unrolled.{book}"
                message += (
                    f"; it is in {place}.{framework}: from {place} import {framework} as {book}"
                )
    caller = sys._getframe(2)  # of __getattr__
    imports = caller.f_code.co_code[caller.f_lasti] == dis.opmap["IMPORT_FROM"]
    return ImportError(message) if imports and message != missing else AttributeError(message)
