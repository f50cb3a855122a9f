"""Wrong arguments and inputs of the public classes, in every framework."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from installed import INSTALLED
from unrolled.errors import DataError, SettingError
from unrolled.public_names import NNDL

ONES, IDS = np.ones((2, 5, 4), np.float32), np.ones((2, 5), np.int64)

ARGUMENTS = [
    lambda f: f.Trainer(max_epochs="3"),
    lambda f: f.Trainer(2.0),
    lambda f: f.Trainer(1, num_gpus="1"),
    lambda f: f.Trainer(1, gradient_clip_val=float("nan")),
    lambda f: f.Trainer(1, gradient_clip_method=3),
    lambda f: f.Trainer(1, listeners=5),
    lambda f: f.LinearRegressionScratch(2.0, 0.1),
    lambda f: f.LinearRegression("fast"),
    lambda f: f.SRN("3", 4),
    lambda f: f.GRU(3, 0),
    lambda f: f.LSTM(3, 4, seed="x"),
    lambda f: f.BiLSTM(2, -1),
    lambda f: f.Embedding(2.5, 3),
    lambda f: f.Linear(3, None),
    lambda f: f.SGD(*([[]] if f.backend.name in ("torch", "mxnet") else []), lr="x"),
    lambda f: f.TextData("abc" * 100, 2, 5, use_random_iter="no"),
    lambda f: f.TextData(5, 2, 5),
    lambda f: f.DigitSumData("5"),
    lambda f: f.TimeMachine("a", 3),
    lambda f: f.SyntheticRegressionData("ab", 1),
    lambda f: f.RNNModelScratch(28, "4"),
    lambda f: f.RNNModel("x", 28),
    lambda f: f.recurrent_layer("rnm", 28, 8),
    lambda f: f.RNNScratch(4, -1),
    lambda f: f.RNNLMScratch(None, 4),
    lambda f: f.Model_RNN4SeqClass(None, 10, 3, 3, 19),
    lambda f: f.NativeModel(None, abs),
    lambda f: f.LanguageModel(28, 4, "rnm"),
    lambda f: f.LanguageModel(28, 0),
    lambda f: f.get_params(28, "x"),
    lambda f: f.Vocab(5),
    lambda f: f.SeqDataLoader("2", 5),
    lambda f: f.load_data_time_machine(2, 5.5),
    lambda f: f.generate_data("5", 1, "nowhere"),
]

INPUTS = [
    (lambda f: f.SRN(3, 4), ONES, "D=3; it was given (2, 5, 4)"),
    (lambda f: f.GRU(4, 4), ONES[0], "(B, L, D) with D=4; it was given (5, 4)"),
    (lambda f: f.LinearRegressionScratch(3, 0.1), ONES[0], "d=3; it was given (5, 4)"),
    (lambda f: f.RNNModelScratch(28, 8), ONES, "V=28; it was given (2, 5, 4)"),
    (lambda f: f.LanguageModel(28, 8), ONES, "V=28; it was given (2, 5, 4)"),
    (lambda f: f.RNNScratch(3, 4), ONES, "D=3; it was given (2, 5, 4)"),
    (lambda f: f.RNNModel(f.recurrent_layer("rnn", 28, 8), 28), IDS[0], "it was given (5,)"),
]


@pytest.fixture(params=INSTALLED)
def shell(request):
    """The public names of all modules of a framework in one place."""
    d2l, nndl = (
        importlib.import_module(f"unrolled.{room}.{request.param}") for room in ("d2l", "nndl")
    )
    own = {name: getattr(d2l, name) for name in {*dir(d2l), *d2l.__all__} if name[0] != "_"}
    return SimpleNamespace(**own | {name: getattr(nndl, name) for name in NNDL})


def test_wrong_arguments_get_our_errors(shell):
    for wrong in ARGUMENTS:
        with pytest.raises(SettingError):
            wrong(shell)


def called(shell, model, X):
    X = shell.backend.asarray(X)
    return model.initialize(X)(X) if shell.backend.name == "jax" else model(X)


def test_inputs_of_another_shape_get_our_errors(shell):
    for make, X, words in INPUTS:
        with pytest.raises(DataError) as error:
            called(shell, make(shell), X)
        assert words in str(error.value)


def test_ids_that_are_no_whole_numbers_get_our_error(shell):
    if shell.backend.name == "mxnet":
        pytest.skip("its arrays hold float32 where nobody asks for more")
    models = (
        shell.RNNModelScratch(28, 8),
        shell.LanguageModel(28, 8),
        shell.RNNModel(shell.recurrent_layer("rnn", 28, 8), 28),
        shell.Model_RNN4SeqClass(shell.SRN(3, 3), 10, 3, 3, 19),
    )
    for model in models:
        with pytest.raises(DataError, match=r"reads ids, whole numbers; it was given .*float32"):
            called(shell, model, IDS.astype(np.float32))


def test_a_minibatch_of_another_width_is_told_of_where_it_is_trained_on(shell):
    data = shell.SyntheticRegressionData([2, -3.4], 4.2, num_train=32, num_val=0, seed=0)
    with pytest.raises(DataError, match=r"d=3; it was given \(32, 2\)"):
        shell.Trainer(1).fit(shell.LinearRegressionScratch(3, 0.1, seed=0), data)


def test_a_layer_that_has_seen_one_width_refuses_another(shell):
    model, narrow = shell.LinearRegression(0.1), shell.backend.asarray(ONES[0, :, :3])
    model = model.initialize(narrow) if shell.backend.name == "jax" else model
    model(narrow)
    with pytest.raises(DataError, match=r"d=3; it was given \(5, 4\)"):
        model(shell.backend.asarray(ONES[0]))
