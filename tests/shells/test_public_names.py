"""Every framework offers the same names, and says where a name is that it lacks."""

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

import unrolled
from installed import FRAMEWORK, INSTALLED
from unrolled.frameworks import FRAMEWORKS
from unrolled.public_names import D2L, NNDL, NOT_IN_JAX, ONLY_IN_JAX, OWN, names_of_d2l

PUBLISHED = {
    *("HyperParameters", "add_to_class", "ProgressBoard", "Module", "DataModule", "Trainer"),
    *("SGD", "SyntheticRegressionData", "LinearRegressionScratch", "LinearRegression"),
    *("Vocab", "read_time_machine", "tokenize", "load_corpus_time_machine"),
    *("load_data_time_machine", "get_params", "init_rnn_state", "rnn", "RNNModelScratch"),
    *("RNNModel", "predict_ch8", "grad_clipping", "train_epoch_ch8", "train_ch8"),
}
"""Names that programs of *Dive into Deep Learning* take from ``d2l``."""


def module(name: str, framework: str) -> Any:
    return importlib.import_module(f"{name}.{framework}")


def imported(framework: str) -> set[str]:
    """The names that a type checker finds in a public module."""
    source = (Path(unrolled.__file__).parent / framework / "__init__.py").read_text()
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.asname == alias.name}
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            found |= {part.id for part in node.targets[0].elts if isinstance(part, ast.Name)}
    return found


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_type_checkers_see_the_names_of_the_table_and_no_others(framework: str) -> None:
    assert imported(framework) == set(OWN)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_type_checkers_take_no_name_of_the_book_for_a_private_import(framework: str) -> None:
    source = (Path(unrolled.__file__).parent / "d2l" / f"{framework}.py").read_text()
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    bound = {alias.asname or alias.name: alias for node in imports for alias in node.names}
    for name in bound.keys() & names_of_d2l(framework):
        assert bound[name].asname == bound[name].name


@pytest.mark.parametrize("framework", INSTALLED)
def test_every_framework_has_the_names_of_the_tables_in_their_modules(framework: str) -> None:
    for name, expected in (("unrolled", set(OWN)), ("unrolled.d2l", names_of_d2l(framework))):
        names: dict[str, Any] = {}
        exec(f"from {name}.{framework} import *", names)
        assert names.keys() - {"__builtins__"} == expected
    own, d2l, nndl = (
        module(name, framework) for name in ("unrolled", "unrolled.d2l", "unrolled.nndl")
    )
    assert set(OWN) <= {*dir(own)}
    assert all(hasattr(nndl, name) for name in NNDL)
    assert d2l.Trainer is own.Trainer


def test_the_published_names_are_there() -> None:
    assert names_of_d2l("torch") >= PUBLISHED


def test_no_name_is_in_two_places() -> None:
    places = [*OWN, *NNDL, *D2L]
    assert len({*places}) == len(places)


def test_jax_has_other_names_where_arrays_do_not_change() -> None:
    assert names_of_d2l("torch") - names_of_d2l("jax") == NOT_IN_JAX
    assert names_of_d2l("jax") - names_of_d2l("torch") == ONLY_IN_JAX


@pytest.mark.parametrize("framework", INSTALLED)
def test_a_name_in_the_wrong_place_is_answered_with_the_right_one(framework: str) -> None:
    own, d2l, nndl = (
        module(room, framework) for room in ("unrolled", "unrolled.d2l", "unrolled.nndl")
    )
    with pytest.raises(AttributeError, match=rf"from unrolled.d2l import {framework} as d2l"):
        own.RNNLMScratch  # noqa: B018
    with pytest.raises(AttributeError, match=rf"from unrolled.nndl import {framework} as nndl"):
        own.RunnerV3  # noqa: B018
    with pytest.raises(AttributeError, match=rf"from unrolled.nndl import {framework} as nndl"):
        d2l.RunnerV3  # noqa: B018
    with pytest.raises(AttributeError, match=rf"from unrolled import {framework}$"):
        nndl.TextData  # noqa: B018
    with pytest.raises(AttributeError, match=r"from unrolled.watch import watch$"):
        own.watch  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute 'Trianer'$"):
        own.Trianer  # noqa: B018


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("from unrolled.{} import RNNLMScratch", "from unrolled.d2l import {} as d2l$"),
        ("from unrolled.{} import GRU", "from unrolled.nndl import {} as nndl$"),
        ("from unrolled.nndl.{} import RNN", "from unrolled.d2l import {} as d2l$"),
        ("from unrolled.d2l.{} import SRN", "from unrolled.nndl import {} as nndl$"),
        ("from unrolled.{} import watch", "from unrolled.watch import watch$"),
        ("from unrolled.telemetry import watch", "from unrolled.watch import watch$"),
        ("from unrolled.{} import Trianer", "cannot import name 'Trianer'"),
    ],
)
def test_an_import_from_the_wrong_place_is_answered_too(line: str, answer: str) -> None:
    with pytest.raises(ImportError, match=answer.format(FRAMEWORK)):
        exec(line.format(FRAMEWORK))


def test_jax_says_why_it_lacks_a_name() -> None:
    pytest.importorskip("jax")
    with pytest.raises(AttributeError, match="JAX changes no array in place"):
        module("unrolled.d2l", "jax").grad_clipping  # noqa: B018
