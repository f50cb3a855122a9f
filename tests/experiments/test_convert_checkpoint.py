"""Checkpoints that are carried to another framework, and trainings that go on there."""

import itertools
import json
import shutil

import numpy as np
import pytest
from short_runs import lines

from installed import FRAMEWORK, INSTALLED
from unrolled import experiments
from unrolled.checkpoints.contents import pack, unpack
from unrolled.checkpoints.folder import newest, write
from unrolled.errors import MissingFrameworkError, ResumeError, RunError
from unrolled.experiments import language_model
from unrolled.experiments.convert import convert
from unrolled.frameworks import load as load_shell
from unrolled.models.weights import parameter_shapes
from unrolled.runs.directory import RunDirectory
from unrolled.training.other_framework import to_carry

PAIRS = list(itertools.permutations(INSTALLED, 2)) or [(FRAMEWORK, FRAMEWORK)]
KINDS = list(itertools.product(("rnn", "gru", "lstm"), (True, False)))
PLACES = {"in an epoch": -2, "at its end": 0, "after its end": 1}
IN_TURN = map(itertools.cycle, ((1, 2, 2, 1), PAIRS, PLACES))
MODELS = [
    (*kind, num_layers, *pair, at)
    for kind, num_layers, pair, at in zip(KINDS, *IN_TURN, strict=False)
]
"""Every kind of model; numbers of layers, pairs of frameworks and places in turn."""

TWO_BIASES = {"rnn": {"torch", "mxnet"}, "lstm": {"torch", "mxnet"}}
TWO_BIASES["gru"] = {"torch", "mxnet", "tensorflow"}
"""Frameworks whose layers train two biases of a gate, whose sum moves twice as fast."""

TEXT = "the time traveller for so it will be convenient to speak of him was expounding to us "
TINY = ("num_hiddens=6", "batch_size=4", "num_steps=5", "max_epochs=2", "lr=0.5")
LINEAR = ("num_train=40", "batch_size=8", "max_epochs=2", "num_val=16")
EVERY = "every=1steps,keep=99"


def run(experiment, settings, framework, out, checkpoint=EVERY):
    return experiments.run(experiment, settings, framework, 0, out, checkpoint=checkpoint)


def killed(run, path, step):
    """A copy that looks as if it were killed after the checkpoint of a step."""
    shutil.copytree(run, path)
    for name in ("summary.json", "model.safetensors"):
        (path / name).unlink()
    for folder in path.glob("checkpoints/step-*"):
        if int(folder.name[5:]) > step:
            shutil.rmtree(folder)
    return path


def check_close(found, expected):
    """The logs and the trained weights of two runs are equal, to rounding."""
    for name, numbers in (("metrics.jsonl", ("loss", "val_loss", "gradient_norm")),
                          ("telemetry.jsonl", ("loss", "gradient_norm"))):  # fmt: skip
        if not (expected / name).exists():
            continue
        one, other = lines(found, name), lines(expected, name)
        assert [line["step"] for line in one] == [line["step"] for line in other]
        for number in numbers:
            values = [[line.get(number) or 0 for line in log] for log in (one, other)]
            np.testing.assert_allclose(*values, rtol=1e-4)
    values = RunDirectory.open(expected).load_model()
    for name, value in RunDirectory.open(found).load_model().items():
        np.testing.assert_allclose(value, values[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("cell", "scratch", "num_layers", "source", "target", "place"), MODELS)
def test_a_language_model_goes_on_in_another_framework(
    tmp_path, capsys, cell, scratch, num_layers, source, target, place
):
    (tmp_path / "text").write_text(2 * TEXT)
    kind = (f"model={cell}", f"scratch={scratch}", f"num_layers={num_layers}")
    settings = (*TINY, *kind, f"text={tmp_path / 'text'}")
    straight = run("language-model", settings, source, tmp_path / "straight")
    step = len(lines(straight, "telemetry.jsonl")) // 2 + PLACES[place]
    out = tmp_path / "out"
    told = convert(killed(straight, tmp_path / "killed", step), target, out)
    assert f"To go on after step {step}: unrolled run --resume {out}" in told
    experiments.resume(out)
    told = capsys.readouterr().out
    assert f"carried from {source}: " in told
    if scratch or (source in TWO_BIASES[cell]) == (target in TWO_BIASES[cell]):
        assert f"carried from {source}: equal to rounding" in told
        check_close(out, straight)
    else:
        assert "two biases where others have one" in told
        one, other = (lines(path, "telemetry.jsonl")[step]["loss"] for path in (out, straight))
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("scratch", [True, False])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_linear_regression_goes_on_in_another_framework(tmp_path, source, target, scratch):
    settings = (*LINEAR, f"scratch={scratch}")
    straight = run("linear-regression", settings, source, tmp_path / "straight")
    step = {True: 3, False: 5}[scratch]  # of 10, in an epoch and at its end
    convert(killed(straight, tmp_path / "killed", step), target, tmp_path / "out")
    experiments.resume(tmp_path / "out")
    check_close(tmp_path / "out", straight)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("scratch", [True, False])
def test_the_carried_state_is_that_of_the_other_framework(cell, scratch):
    """From the same weights after the same minibatch, and laid out as a first state."""
    settings = {"model": cell, "scratch": scratch, "num_hiddens": 6, "num_layers": 2}
    tokens, draw = sorted(set(TEXT)), np.random.default_rng(0)
    shapes = parameter_shapes(cell, 2, len(tokens), 6)
    values = {name: draw.normal(size=shape).astype("f") for name, shape in shapes.items()}
    ids = draw.integers(0, len(tokens), (4, 5))
    states = []
    for name in INSTALLED:
        model = language_model.restore(name, {"settings": settings}, values, tokens).model
        backend = load_shell(name).backend
        with backend.without_gradients():
            _, state = model(backend.asarray(ids), None)
        begun = model.begin_state(4)
        assert type(state) is type(begun) or not isinstance(begun, tuple)
        states.append([backend.to_numpy(part) for part in flat(state)])
        assert [part.shape for part in states[-1]] == [tuple(p.shape) for p in flat(begun)]
    for other in states[1:]:
        for one, two in zip(states[0], other, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)


def flat(state):
    return list(state) if isinstance(state, tuple) else [state]


@pytest.fixture
def straight(tmp_path):
    return run("linear-regression", LINEAR, FRAMEWORK, tmp_path / "straight")


def test_a_finished_run_is_carried_with_its_checkpoint_and_takes_more_epochs(straight, tmp_path):
    target, out = PAIRS[0][1], tmp_path / "out"
    convert(straight, target, out)
    for name in ("model.safetensors", "metrics.jsonl", "summary.json"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()
    with pytest.raises(ResumeError, match=r"is finished\. To add epochs"):
        experiments.resume(out)
    more = [each.replace("max_epochs=2", "max_epochs=3") for each in LINEAR]
    longer = run("linear-regression", tuple(more), FRAMEWORK, tmp_path / "longer")
    experiments.resume(out, ("max_epochs=3",))
    check_close(out, longer)
    config = json.loads((out / "config.json").read_text())
    assert (config["framework"], config["converted_from"]) == (target, FRAMEWORK)


def test_a_framework_that_is_not_installed_is_needed_for_its_own_layers_only(tmp_path, monkeypatch):
    runs = [
        run("linear-regression", (*LINEAR, f"scratch={scratch}"), FRAMEWORK, tmp_path / scratch)
        for scratch in ("true", "false")
    ]
    monkeypatch.setattr("unrolled.frameworks.is_installed", lambda name: False)
    target = PAIRS[0][1]
    assert "To go on after step 10" in convert(runs[0], target, tmp_path / "a")
    assert "checkpoints are not carried" in convert(runs[1], target, tmp_path / "b")
    assert not (tmp_path / "b/checkpoints").exists()
    with pytest.raises(MissingFrameworkError, match="layers it was trained with, is not installed"):
        convert(killed(runs[1], tmp_path / "killed", 3), target, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_what_nobody_has_gone_on_with_is_carried_on_as_it_is(straight, tmp_path):
    target = PAIRS[0][1]
    convert(straight, target, tmp_path / "one")
    convert(tmp_path / "one", FRAMEWORK, tmp_path / "two")
    one, two = (newest(tmp_path / name / "checkpoints") for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("position"),
        lambda state: state.pop("optimizer"),
        lambda state: state.update(listeners=None),
        lambda state: state["listeners"]["Logs"].update({"metrics.jsonl": {"lines": "1"}}),
        lambda state: state["listeners"]["Logs"].update({"metrics.jsonl": {"rows": 1}}),
    ],
)
def test_a_checkpoint_of_something_else_is_named(straight, tmp_path, change):
    (step, files), _ = newest(straight / "checkpoints")
    state, parameters = unpack(files)
    change(state)
    write(straight / "checkpoints", step, pack(state, parameters))
    with pytest.raises(RunError, match=r"checkpoint of step 10 .* is none of linear-regression"):
        convert(straight, PAIRS[0][1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_file_outside_the_run_is_carried(straight, tmp_path):
    (tmp_path / "secret").write_text("1\n")
    (step, files), _ = newest(straight / "checkpoints")
    state, parameters = unpack(files)
    state["listeners"]["Logs"]["../secret"] = {"lines": 1, "sha256": None}
    write(straight / "checkpoints", step, pack(state, parameters))
    (tmp_path / "new").mkdir()
    convert(straight, PAIRS[0][1], tmp_path / "new" / "out")
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["out"]


def test_an_optimizer_that_has_learned_something_has_no_counterpart():
    kept = {"rollbacks": 2, "kept": {"parameters": {}}, "kept_step": 3}
    state = {"optimizer": {"lr": 0.1, "momentum": [np.zeros((2, 1))]}, "recovery": kept}
    state["position"] = {"step": 7}
    with pytest.raises(RunError, match="the optimizer keeps arrays beside the parameters"):
        to_carry(state, "torch", {})
    state["optimizer"] = {"variables": [np.zeros(()), np.ones(1)]}
    carried = to_carry(state, "torch", {})
    assert "optimizer" not in carried
    assert carried["recovery"] == {"rollbacks": 2, "kept": None, "kept_step": 7}


def test_logs_that_are_not_those_of_the_checkpoint_are_named(straight, tmp_path):
    log = straight / "metrics.jsonl"
    log.write_text(log.read_text().replace("0", "1", 1))
    with pytest.raises(RunError, match=r"straight.metrics.jsonl' has been changed"):
        convert(straight, PAIRS[0][1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_on_a_full_disk_nothing_of_the_new_run_remains(straight, tmp_path, monkeypatch):
    def fail(directory, *rest):
        directory.mkdir()
        raise RunError("the disk is full")

    monkeypatch.setattr("unrolled.experiments.convert_checkpoint.folder.write", fail)
    with pytest.raises(RunError, match="the disk is full"):
        convert(straight, PAIRS[0][1], tmp_path / "out")
    assert not (tmp_path / "out").exists()
