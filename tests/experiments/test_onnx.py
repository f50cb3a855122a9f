import numpy as np
import pytest
from test_convert import logits, written_by_hand

from installed import FRAMEWORK
from unrolled.experiments.language_model import load
from unrolled.runs.directory import RunDirectory

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_onnx_runtime_gives_the_logits_and_states_of_the_reference(
    unrolled, tmp_path, cell, num_layers
):
    reference, values = written_by_hand(tmp_path / "run", cell, True, num_layers, FRAMEWORK)
    assert unrolled("export", tmp_path / "run", "--onnx", "model.onnx").code == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [given.name for given in session.get_inputs()][1:]
    rng = np.random.default_rng(0)
    for B, T, scale in ((1, 1, 1), (3, 7, 1), (2, 20, 0)):  # both sizes stay open
        X = rng.integers(0, 28, (B, T))
        state = tuple(scale * rng.normal(size=(B, 8)).astype(np.float32) for _ in names)
        given = {name: part[None] for name, part in zip(names, state, strict=True)}
        logits, *found = session.run(None, {"X": X, **given})
        expected, last, _ = reference.forward(values, X, state)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_allclose([part[0] for part in found], last, atol=1e-4)


def test_an_existing_file_is_not_written_over(unrolled, tiny_run, tmp_path):
    (tmp_path / "mine.onnx").write_text("mine")
    unrolled("export", tiny_run, "--onnx", "mine.onnx").assert_refused("exists already")
    assert (tmp_path / "mine.onnx").read_text() == "mine"


def test_parameters_that_do_not_fit_the_settings_are_named(unrolled, tiny_run, tmp_path):
    directory = RunDirectory.open(tiny_run)
    values = directory.load_model()
    values["activation=relu.W_hh"] = values.pop("W_hh")  # of another function
    directory.save_model(values)
    outcome = unrolled("export", tiny_run, "--onnx", "model.onnx")
    outcome.assert_refused("W_hh: missing", "activation=relu.W_hh: unexpected")
    assert not (tmp_path / "model.onnx").exists()


def test_longer_numbers_become_those_that_the_graph_computes_in(unrolled, tiny_run, tmp_path):
    directory = RunDirectory.open(tiny_run)
    values = directory.load_model()
    ids = np.array([[1, 2, 3]])
    expected = logits(load(tiny_run), ids)
    directory.save_model({name: value.astype(np.float64) for name, value in values.items()})
    assert unrolled("export", tiny_run, "--onnx", "model.onnx").code == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    given = {"X": ids, "H0_in": np.zeros((1, 1, 8), np.float32)}
    np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-5)
