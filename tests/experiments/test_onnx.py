import numpy as np
import pytest

from unrolled import experiments
from unrolled.errors import ParameterError
from unrolled.experiments import onnx
from unrolled.experiments.language_model import load
from unrolled.runs.directory import RunDirectory

onnxruntime = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

TINY = ("max_epochs=1", "num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("scratch", ["true", "false"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_onnx_runtime_gives_the_same_logits_and_state(
    unrolled, tmp_path, model, scratch, num_layers
):
    kind = (f"model={model}", f"scratch={scratch}", f"num_layers={num_layers}")
    run = experiments.run("language-model", (*TINY, *kind), out=tmp_path / "run")
    assert unrolled("export", run, "--onnx", "model.onnx").code == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    states = [i.name for i in session.get_inputs()][1:]
    net = load(run).model
    rng = np.random.default_rng(0)
    for B, T in ((1, 1), (3, 7), (2, 20)):  # both stay open
        X = rng.integers(0, 28, (B, T))
        given = {name: rng.normal(size=(1, B, 8)).astype(np.float32) for name in states}
        parts = [torch.tensor(given[name]) for name in states]
        if scratch == "true":
            state = tuple(part[0] for part in parts)
        elif model == "lstm":
            state = (torch.cat(parts[0::2]), torch.cat(parts[1::2]))
        else:
            state = torch.cat(parts)
        with torch.no_grad():
            logits, _ = net(torch.tensor(X), state)
            zero_logits, _ = net(torch.tensor(X))
        found = session.run(None, {"X": X, **given})
        np.testing.assert_allclose(found[0], logits.numpy(), atol=1e-4)
        zeros = {name: np.zeros_like(value) for name, value in given.items()}
        np.testing.assert_allclose(
            session.run(["logits"], {"X": X, **zeros})[0], zero_logits.numpy(), atol=1e-4
        )


def test_an_existing_file_is_not_written_over(unrolled, tiny_run, tmp_path):
    (tmp_path / "mine.onnx").write_text("mine")
    outcome = unrolled("export", tiny_run, "--onnx", "mine.onnx")
    assert outcome.code == 2
    assert "exists already" in outcome.err
    assert (tmp_path / "mine.onnx").read_text() == "mine"


def test_a_linear_regression_is_refused(unrolled, tmp_path):
    assert unrolled("run", "linear-regression", "--out", "linear").code == 0
    outcome = unrolled("export", "linear", "--onnx", "mine.onnx")
    assert outcome.code == 2
    assert "language-model is needed" in outcome.err
    assert not (tmp_path / "mine.onnx").exists()


def test_parameters_that_do_not_fit_the_settings_are_named(unrolled, tiny_run, tmp_path):
    directory = RunDirectory.open(tiny_run)
    values = directory.load_model()
    values["W_other"] = values.pop("W_hh")
    directory.save_model(values)
    outcome = unrolled("export", tiny_run, "--onnx", "model.onnx")
    assert outcome.code == 2
    assert "W_hh: missing" in outcome.err
    assert "W_other: unexpected" in outcome.err
    assert not (tmp_path / "model.onnx").exists()


def test_longer_numbers_become_those_that_the_graph_computes_in(unrolled, tiny_run, tmp_path):
    directory = RunDirectory.open(tiny_run)
    values = directory.load_model()
    expected, _ = load(tiny_run).model(torch.tensor([[1, 2, 3]]))
    directory.save_model({name: value.astype(np.float64) for name, value in values.items()})
    assert unrolled("export", tiny_run, "--onnx", "model.onnx").code == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    given = {"X": np.array([[1, 2, 3]]), "H0_in": np.zeros((1, 1, 8), np.float32)}
    np.testing.assert_allclose(session.run(None, given)[0], expected.detach().numpy(), atol=1e-5)


def test_values_of_another_function_are_refused():
    values = {"activation=relu.W_xh": np.ones((3, 4)), "W_hq": np.ones((4, 3)), "b_q": np.ones(3)}
    with pytest.raises(ParameterError, match=r"activation=relu.W_xh: unexpected"):
        onnx.build(values, "rnn", 1)
