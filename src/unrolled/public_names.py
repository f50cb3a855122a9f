"""The table of public names: ours in each framework's module, those of two books in theirs.

``unrolled.torch`` and its siblings import what is in `OWN`. ``unrolled.d2l.torch`` has these and
the names of `D2L`, from the modules that this table gives; ``unrolled.nndl.torch`` has `NNDL`.
"""

OWN = (
    *("DataModule", "HyperParameters", "LanguageModel", "LinearRegression"),
    *("LinearRegressionScratch", "Module", "NativeModel", "ProgressBoard", "RNNModel", "SGD"),
    *("SyntheticRegressionData", "TextData", "Trainer", "Vocab", "add_to_class", "backend"),
    *("parameters", "recurrent_layer"),
)

D2L = {
    "unrolled.d2l.{framework}.chapters": (
        *("RNNModelScratch", "SeqDataLoader", "cpu", "evaluate_loss", "get_gru_params"),
        *("get_lstm_params", "get_params", "gpu", "grad_clipping", "gru", "init_gru_state"),
        *("init_lstm_state", "init_rnn_state", "linreg", "load_array", "load_data_time_machine"),
        *("lstm", "num_gpus", "predict_ch8", "rnn", "seq_data_iter_random"),
        *("seq_data_iter_sequential", "sgd", "squared_loss", "synthetic_data", "train_ch8"),
        *("train_epoch_ch8", "try_all_gpus", "try_gpu"),
    ),
    "unrolled.d2l.{framework}.english": (
        "Classifier",
        "RNN",
        "RNNLM",
        "RNNLMScratch",
        "RNNScratch",
        "TimeMachine",
    ),
    "unrolled.d2l.{framework}.aliases": (
        *("arange", "argmax", "concat", "exp", "float32", "get_key", "get_seed", "int32", "int64"),
        *("matmul", "normal", "numpy", "ones", "randn", "reduce_mean", "reshape", "sigmoid", "sin"),
        *("size", "stack", "swapaxes", "tanh", "tensor", "to", "transpose", "zeros"),
    ),
    "unrolled.d2l.three_functions": ("Scratch",),
    "unrolled.d2l.tools": (
        *("Accumulator", "Animator", "Timer", "check_len", "check_shape", "plot", "plt"),
        *("set_figsize", "use_svg_display"),
    ),
    "unrolled.d2l.downloads": ("DATA_HUB", "DATA_URL", "download"),
    "unrolled.d2l.sequence_loader": ("load_corpus_time_machine", "read_time_machine", "tokenize"),
}
"""Names of *Dive into Deep Learning*, by the module that defines them."""

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
    return {*OWN, *(name for names in D2L.values() for name in names)} - left_out


def no_such_name(module: str, name: str) -> AttributeError:
    """Return the error for a name that a public module lacks; it says which module has it.

    Example:
        >>> print(no_such_name("unrolled.torch", "RNNLMScratch"))
        module 'unrolled.torch' has no attribute 'RNNLMScratch'; it is in unrolled.d2l.torch: from
        unrolled.d2l import torch as d2l
    """
    framework = module.rpartition(".")[2]
    message = f"module '{module}' has no attribute '{name}'"
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
    return AttributeError(message)
