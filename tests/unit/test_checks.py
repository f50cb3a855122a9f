"""What the rules of arguments let through, and what not."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

from unrolled.checks import RULES, check, check_inputs, checked
from unrolled.errors import DataError, SettingError
from unrolled.hyperparameters import HyperParameters

RIGHT = {
    "num_hiddens": [1, 8, np.int64(3), np.array(4)],
    "max_epochs": [0, 10**9],
    "max_tokens": [-1, 0, 5],
    "lr": [0, 0.5, 1, np.float32(0.1), np.array(0.1), lambda step: 0.1],
    "gradient_clip_val": [0, 1.5, math.inf],
    "use_random_iter": [True, False, np.True_, 0, 1],
    "seed": [0, 2**40, [1, 2], (np.int64(1), 2)],
    "net": [abs, [abs, len]],
    "cell": ["rnn", "gru", "lstm"],
    "params": [[], iter([])],
}
WRONG = {
    "num_hiddens": ["8", None, 8.0, True, 0, -1, math.nan, [8], np.array([8]), np.True_, "", abs],
    "max_epochs": ["3", None, 3.0, False, -1, math.inf],
    "max_tokens": ["5", 5.5, True],
    "lr": ["0.1", None, True, -0.1, math.nan, math.inf, [0.1], np.array([0.1, 0.2]), 1j],
    "gradient_clip_val": ["1", None, -1, math.nan, np.float32("nan")],
    "use_random_iter": ["no", None, 2, 0.5, []],
    "seed": ["0", -1, 0.5, True, [1, -1], "12"],
    "net": [None, "net", 3, [], [abs, 3]],
    "cell": ["rnm", None, 3, ["rnn"]],
    "params": [None, 3],
}


def given(values):
    return [(name, value) for name, all_ in values.items() for value in all_]


@pytest.mark.parametrize(("name", "value"), given(RIGHT))
def test_what_is_right_is_let_through(name, value):
    check([(name, value, ...)], "f")


@pytest.mark.parametrize(("name", "value"), given(WRONG))
def test_what_is_wrong_is_named_with_what_is_right(name, value):
    with pytest.raises(SettingError, match=rf"^f: {name} is .*; it must be "):
        check([(name, value, ...)], "f")


def test_none_is_right_where_it_is_the_default():
    check([(name, None, None) for name in RULES], "f")


def test_all_wrong_arguments_are_told_at_once():
    with pytest.raises(SettingError, match=re.compile("lr is 'x'.*num_layers is 0", re.S)):
        check([("lr", "x", 1), ("num_layers", 0, 1)], "f")


def test_checked_functions_keep_their_own_errors():
    @checked
    def train(num_epochs, other, lr=0.1):
        return num_epochs, other, lr

    assert train(1, "any", lr=2) == (1, "any", 2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'other'"):
        train(1)
    with pytest.raises(SettingError, match="train: num_epochs is '1'"):
        train("1", "any")


class Ours(HyperParameters):
    __module__ = "unrolled.made_up"

    def __init__(self, lr, width=3):
        self.save_hyperparameters()


class Theirs(Ours):
    def __init__(self, lr, depth=2):
        super().__init__(0.5, width=depth)


def test_constructors_of_ours_are_checked_and_those_of_readers_are_not():
    with pytest.raises(SettingError, match="Ours: lr is 'fast'"):
        Ours("fast")
    theirs = Theirs("fast")
    assert theirs.hparams == {"lr": 0.5, "width": 2, "depth": 2}
    assert Ours(0.1).hparams == {"lr": 0.1, "width": 3}
    for again in (copy.deepcopy(theirs), pickle.loads(pickle.dumps(theirs))):
        assert again.hparams == theirs.hparams


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.ones((2, 4)), r"with D=3; it was given \(2, 4\)"),
        (np.ones((2, 5, 4)), r"it was given \(2, 5, 4\)"),
        ([[1, 2, 3]], "it was given a list"),
    ],
)
def test_inputs_of_another_shape_name_both(X, words):
    with pytest.raises(DataError, match=r"dict reads inputs \(B, D\) .*" + words):
        check_inputs({}, X, "(B, D)", 3)
    check_inputs({}, np.ones((2, 3)), "(B, D)", 3)
