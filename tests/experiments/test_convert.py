import itertools
import json

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from models import with_values
from parity.reference import LanguageModel
from unrolled import experiments
from unrolled.errors import ParameterError
from unrolled.experiments import digit_sum_training, language_model, linear_regression
from unrolled.experiments.language_model import load
from unrolled.frameworks import FRAMEWORKS
from unrolled.frameworks import load as load_shell
from unrolled.runs.directory import RunDirectory


def logits(trained, ids):
    backend = trained.shell.backend
    with backend.without_gradients():
        values, _ = trained.model(backend.asarray(ids), None)
    return backend.to_numpy(values)


def written_by_hand(path, cell, scratch, num_layers, framework):
    """A run directory with random values, and the reference that computes with them."""
    tokens = ["<unk>", " ", *"abcdefghijklmnopqrstuvwxyz"]
    reference = LanguageModel(cell, num_layers, len(tokens), 8)
    draw = np.random.default_rng([num_layers, len(cell)])
    values = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in reference.shapes().items()
    }
    directory = RunDirectory.create(path)
    settings = {"model": cell, "scratch": scratch, "num_hiddens": 8, "num_layers": num_layers}
    config = {"experiment": "language-model", "framework": framework, "seed": 0}
    directory.write_json("config.json", config | {"settings": settings})
    directory.write_json("vocabulary.json", tokens)
    directory.write_json("summary.json", {})
    directory.save_model(values)
    return reference, values


def check_against(reference, values, trained):
    """Logits and greedy text of a model are those that NumPy computes from the file."""
    ids = np.random.default_rng(0).integers(0, 28, (3, 7))
    expected, _, _ = reference.forward(values, ids, reference.begin_state(3))
    np.testing.assert_allclose(logits(trained, ids), expected, atol=1e-5)
    prefix = trained.vocab.encode("time")
    greedy = [token for token, _ in reference.continuation(values, prefix, 50)]
    text = "time" + "".join(trained.vocab.to_tokens(greedy))
    assert trained.write(["time"], 50) == [text]


KINDS = list(itertools.product(("rnn", "gru", "lstm"), (True, False), (1, 2)))
DIRECTIONS = list(itertools.permutations(INSTALLED, 2)) or [(FRAMEWORK, FRAMEWORK)]
TO_THE_NEXT = list(zip(INSTALLED, [*INSTALLED[1:], *INSTALLED[:1]], strict=True))
"""Each framework once as the source and once as the target."""


@pytest.mark.parametrize(
    ("cell", "scratch", "num_layers", "source", "target"),
    # every kind of model, and every direction in turn
    [(*kind, *direction) for kind, direction in zip(KINDS, itertools.cycle(DIRECTIONS))],
)
def test_a_model_means_the_same_in_another_framework_and_by_hand(
    unrolled, tmp_path, cell, scratch, num_layers, source, target
):
    """What NumPy computes from the file ties together those that cannot be installed together."""
    run = tmp_path / "run"
    reference, values = written_by_hand(run, cell, scratch, num_layers, source)
    check_against(reference, values, load(run))
    assert unrolled("convert", run, "--to", target, "--out", tmp_path / "out").code == 0
    carried = load(tmp_path / "out")
    assert carried.shell.backend.name == target
    check_against(reference, values, carried)


def test_a_framework_that_is_not_installed_is_reached_through_the_file(
    unrolled, tiny_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("unrolled.experiments.convert.frameworks.is_installed", lambda name: False)
    other = next(name for name in FRAMEWORKS if name != FRAMEWORK)
    outcome = unrolled("convert", tiny_run, "--to", other, "--out", "other")
    assert outcome.code == 0
    assert "not checked" in outcome.out
    config = json.loads((tmp_path / "other/config.json").read_text())
    assert (config["framework"], config["converted_from"]) == (other, FRAMEWORK)
    same = (tiny_run / "model.safetensors").read_bytes()
    assert (tmp_path / "other/model.safetensors").read_bytes() == same


@pytest.mark.parametrize("scratch", ["true", "false"])
@pytest.mark.parametrize(("source", "target"), TO_THE_NEXT)
def test_linear_regression_predicts_the_same_in_every_framework(
    unrolled, tmp_path, source, target, scratch
):
    run = tmp_path / "run"
    small = (f"scratch={scratch}", "num_train=64", "num_val=0", "max_epochs=1")
    experiments.run("linear-regression", small, source, 0, run)
    values = RunDirectory.open(run).load_model()
    assert {name: value.shape for name, value in values.items()} == {"w": (2, 1), "b": (1,)}
    assert unrolled("convert", run, "--to", target, "--out", tmp_path / "out").code == 0
    out, backend = RunDirectory.open(tmp_path / "out"), load_shell(target).backend
    model = linear_regression.restore(target, out.read_json("config.json"), out.load_model())
    X = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    found = backend.to_numpy(model(backend.asarray(X)))
    np.testing.assert_allclose(found, X @ values["w"] + values["b"], atol=1e-5)


@pytest.mark.parametrize(("source", "target"), TO_THE_NEXT)
def test_ties_survive_conversion(unrolled, tmp_path, source, target):
    reference, values = written_by_hand(tmp_path / "run", "gru", True, 2, source)
    values["layers.1.W_hz"] = values["layers.0.W_hz"]  # one array at two places
    RunDirectory(tmp_path / "run").save_model(values)
    out = tmp_path / target
    assert unrolled("convert", tmp_path / "run", "--to", target, "--out", out).code == 0
    trained = load(out)
    check_against(reference, values, trained)
    places = trained.shell.parameters(trained.model)["layers.1.W_hz"].places
    assert places == ("layers.0.W_hz", "layers.1.W_hz")
    kept = trained.model.export_parameters()
    assert kept["layers.1.W_hz"] is kept["layers.0.W_hz"]
    lines = unrolled("params", out).out.splitlines()
    (row,) = [line for line in lines if line.startswith("layers.0.W_hz")]
    assert row.endswith("layers.1.W_hz")


def test_logs_stay_with_the_run_that_was_converted_and_diagnose_says_so(
    unrolled, tiny_run, tmp_path
):
    assert unrolled("convert", tiny_run, "--to", FRAMEWORK, "--out", "other").code == 0
    unrolled("diagnose", "other").assert_refused("converted")
    assert unrolled("report", "other").code == 0


@pytest.mark.parametrize("cell", list(digit_sum_training.LAYERS))
@pytest.mark.parametrize("num_hiddens", [1, 5])
def test_digit_sum_models_are_carried_over_in_python(cell, num_hiddens):
    ids = np.random.default_rng(0).integers(0, 10, (4, 9))
    values, found = {}, []
    for name in INSTALLED:
        backend = load_shell(name).backend
        model = digit_sum_training.build(
            load_shell(name, "unrolled.nndl"), cell, num_hiddens, seed=0, lr=0.1
        )
        X = backend.asarray(ids)
        model = with_values(model, X)
        shapes = {n: value.shape for n, value in model.export_parameters().items()}
        draw = np.random.default_rng(1)
        values = values or {n: draw.normal(size=s).astype(np.float32) for n, s in shapes.items()}
        model = model.import_parameters(values)
        with backend.without_gradients():
            found.append(backend.to_numpy(model(X)))
        for n, value in model.export_parameters().items():
            np.testing.assert_array_equal(value, values[n])
    for one in found:
        np.testing.assert_allclose(one, found[0], atol=1e-5)


@pytest.fixture(params=[True, False], ids=["target installed", "not"])
def installed(request, monkeypatch):
    place = "unrolled.experiments.convert.frameworks.is_installed"
    monkeypatch.setattr(place, lambda name: request.param)


@pytest.fixture(scope="module")
def linear_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("linear") / "run"
    return experiments.run("linear-regression", ("max_epochs=1",), FRAMEWORK, 0, out)


def test_a_run_without_counterpart_is_refused(
    unrolled, linear_run, tmp_path, monkeypatch, installed
):
    monkeypatch.delattr(linear_regression, "restore")
    outcome = unrolled("convert", linear_run, "--to", FRAMEWORK, "--out", "other")
    outcome.assert_refused("a run of linear-regression is not converted", "language-model")
    assert not (tmp_path / "other").exists()


def test_parameters_that_do_not_fit_are_all_named(unrolled, tiny_run, tmp_path, installed):
    values = RunDirectory.open(tiny_run).load_model()
    del values["b_h"]
    values["W_hh"] = values["W_hh"][:3]
    values["extra"] = np.zeros(1, np.float32)
    RunDirectory(tiny_run).save_model(values)
    outcome = unrolled("convert", tiny_run, "--to", FRAMEWORK, "--out", "other")
    outcome.assert_refused("b_h: missing", "W_hh: has shape", "extra: unexpected")
    assert not (tmp_path / "other").exists()


def test_params_lists_names_shapes_and_the_total(unrolled, tiny_run):
    listing = unrolled("params", tiny_run).out.splitlines()
    names = ["name", "W_xh", "W_hh", "b_h", "W_hq", "b_q", "total"]
    assert [line.split()[0] for line in listing] == names
    assert listing[-1].split()[-1] == "548"


@pytest.mark.parametrize("name", INSTALLED)
def test_a_tie_between_cells_is_not_lost_in_silence_in_a_frameworks_layers(name):
    u = load_shell(name)
    model = with_values(u.RNNModel(u.recurrent_layer("gru", 6, 6, 2), 6))
    values = model.export_parameters()
    values["layers.1.W_hz"] = values["layers.0.W_hz"]
    with pytest.raises(ParameterError, match=r"layers.1.W_hz is tied to layers.0.W_hz") as error:
        model.import_parameters(values)
    assert "value.copy()" in str(error.value)
    apart = {n: value.copy() for n, value in values.items()}
    with pytest.raises(ParameterError, match="'b_q' is list; an array is expected"):
        model.import_parameters({**apart, "b_q": [0.0] * 6})
    taken = model.import_parameters(apart)
    for n, value in taken.export_parameters().items():
        np.testing.assert_array_equal(value, values[n])


@pytest.mark.parametrize("name", INSTALLED)
def test_a_tie_inside_a_frameworks_layers_has_no_counterpart_and_is_named(name):
    u = load_shell(name)
    model = u.RNNModel(u.recurrent_layer("rnn", 28, 8, 2), 28)
    if name == "jax":
        params = u.backend.nested(u.backend.named_arrays(model.initialize()))
        parameters = u.parameters(params)
    else:
        parameters = u.parameters(model)
    square = [p.name for p in parameters.values() if p.shape == (8, 8)]
    one, other = square[0], square[-1]
    parameters.tie(other, to=one)
    if name == "jax":
        model = model.bind({"params": params})
    with pytest.raises(ParameterError, match="which has no") as error:
        model.export_parameters()
    assert f"{other} is tied to {one}" in str(error.value)


def test_more_layers_than_parameters_are_refused_at_once():
    config = {"settings": {"num_layers": 10**12}}
    with pytest.raises(ParameterError, match="1 parameters are too few for 1000000000000 layers"):
        language_model.checked(config, {"W_xh": np.ones((2, 2))}, ["a", "b"])
