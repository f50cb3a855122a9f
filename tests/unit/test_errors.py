import inspect

import pytest

from unrolled import errors
from unrolled.errors import ParameterError, UnrolledError, check_fit, did_you_mean


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("SettingError", ValueError),
        ("TextError", ValueError),
        ("ParameterError", ValueError),
        ("MissingFrameworkError", ImportError),
        ("NotFiniteError", ArithmeticError),
    ],
)
def test_errors_are_caught_by_the_builtin_name_too(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


def test_one_name_catches_every_error_and_each_exits_with_a_code():
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert len(classes) > 5
    for error in classes:
        assert issubclass(error, UnrolledError)
        assert error.exit_code != 0


@pytest.mark.parametrize(
    ("given", "near"), [("num_hidden", "num_hiddens"), ("Lr", "lr"), ("bacth_size", "batch_size")]
)
def test_the_nearest_name_is_suggested_and_all_are_listed(given, near):
    text = did_you_mean(given, iter(["lr", "num_hiddens", "batch_size"]))
    assert did_you_mean("zzz", ["lr", "sigma"]) == "there are: lr, sigma"
    assert text == f"did you mean '{near}'? There are: lr, num_hiddens, batch_size"


def test_all_that_does_not_fit_is_said_at_once():
    check_fit({"W": (2, 3), "b": (3,)}, {"b": (3,), "W": (2, 3)})
    with pytest.raises(ParameterError) as caught:
        check_fit({"W": (2, 3), "b": (3,), "U": (3, 3)}, {"W": (3, 2), "c": (3,), "U": (3, 3)})
    assert str(caught.value).splitlines()[1:] == [
        "W: has shape (3, 2), expected (2, 3)",
        "b: missing, expected (3,)",
        "c: unexpected, has shape (3,)",
    ]
