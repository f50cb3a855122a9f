import itertools
import json

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from unrolled import experiments
from unrolled.experiments.language_model import load
from unrolled.frameworks import FRAMEWORKS

TINY = ("max_epochs=1", "num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")


def logits(trained, ids):
    backend = trained.face.backend
    with backend.without_gradients():
        values, _ = trained.model(backend.asarray(ids), None)
    return backend.to_numpy(values)


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("scratch", ["true", "false"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("source", INSTALLED)
def test_a_model_gives_the_same_logits_and_text_in_every_framework(
    unrolled, tmp_path, source, model, scratch, num_layers
):
    kind = (f"model={model}", f"scratch={scratch}", f"num_layers={num_layers}")
    run = experiments.run("language-model", (*TINY, *kind), source, 0, tmp_path / "run")
    trained = load(run)
    ids = np.random.default_rng(0).integers(0, 28, (3, 7))
    for target in INSTALLED:
        out = tmp_path / f"in-{target}"
        assert unrolled("convert", run, "--to", target, "--out", out).code == 0
        carried = load(out)
        assert carried.face.backend.name == target
        np.testing.assert_allclose(logits(carried, ids), logits(trained, ids), atol=1e-5)
        assert carried.write(None, 50) == trained.write(None, 50)


def test_a_model_converts_between_the_layer_and_the_cell_written_out(tmp_path):
    torch = pytest.importorskip("torch")
    from unrolled import torch as face

    ids = torch.randint(0, 28, (3, 7))
    for cell, num_layers in itertools.product(("rnn", "gru", "lstm"), (1, 2)):
        layer = face.RNNModel(face.recurrent_layer(cell, 28, 8, num_layers), 28)
        scratch = face.Scratch(face.backend, cell, num_layers)
        written_out = face.RNNModelScratch(
            28, 8, None, scratch.get_params, scratch.init_state, scratch.forward
        )
        written_out.import_parameters(layer.export_parameters())
        with torch.no_grad():
            torch.testing.assert_close(written_out(ids)[0], layer(ids)[0], atol=1e-5, rtol=1e-5)


def test_a_framework_that_is_not_installed_is_reached_through_the_file(
    unrolled, tiny_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("unrolled.runs.convert.frameworks.is_installed", lambda name: False)
    other = next(name for name in FRAMEWORKS if name != FRAMEWORK)
    outcome = unrolled("convert", tiny_run, "--to", other, "--out", "other")
    assert outcome.code == 0
    assert "not checked" in outcome.out
    config = json.loads((tmp_path / "other/config.json").read_text())
    assert (config["framework"], config["converted_from"]) == (other, FRAMEWORK)
    same = (tiny_run / "model.safetensors").read_bytes()
    assert (tmp_path / "other/model.safetensors").read_bytes() == same


def test_a_run_without_counterpart_is_refused(unrolled, tmp_path):
    assert unrolled("run", "linear-regression", "--out", "linear").code == 0
    outcome = unrolled("convert", "linear", "--to", FRAMEWORK, "--out", "other")
    assert outcome.code == 2
    assert "no counterpart" in outcome.err
    assert not (tmp_path / "other").exists()


def test_parameters_that_do_not_fit_are_all_named(unrolled, tiny_run, tmp_path):
    from unrolled.runs.directory import RunDirectory

    values = RunDirectory.open(tiny_run).load_model()
    del values["b_h"]
    values["W_hh"] = values["W_hh"][:3]
    values["extra"] = np.zeros(1, np.float32)
    RunDirectory(tiny_run).save_model(values)
    outcome = unrolled("convert", tiny_run, "--to", FRAMEWORK, "--out", "other")
    assert outcome.code == 2
    assert all(name in outcome.err for name in ("b_h: missing", "W_hh: has shape", "extra: unex"))
    assert not (tmp_path / "other").exists()


def test_params_lists_names_shapes_and_the_total(unrolled, tiny_run):
    listing = unrolled("params", tiny_run).out.splitlines()
    assert [line.split()[0] for line in listing] == [
        "name",
        "W_xh",
        "W_hh",
        "b_h",
        "W_hq",
        "b_q",
        "total",
    ]
    assert listing[-1].split()[-1] == "548"
