import math
from functools import partial

import numpy as np
import pytest
import short_runs
from short_runs import lines, same, summary

from installed import FRAMEWORK, INSTALLED
from unrolled.data.text import clean, time_machine
from unrolled.data.vocabulary import Vocab
from unrolled.errors import RunError, SettingError
from unrolled.experiments import language_model
from unrolled.experiments.language_model import Settings, complete, explain, load
from unrolled.frameworks import load as load_shell
from unrolled.functional.losses import perplexity
from unrolled.runs.directory import RunDirectory
from unrolled.training.evaluation import mean_cross_entropy

TINY = {"max_epochs": 2, "num_hiddens": 8, "batch_size": 4, "num_steps": 5, "max_tokens": 200}
TINY["telemetry_every"] = 0  # its own tests have it; compilers would take seconds more

TIME_MACHINE = clean(time_machine())

run = partial(short_runs.run, "language-model")


@pytest.fixture(scope="module", params=INSTALLED)
def tiny(request, tmp_path_factory):
    """A tiny run of each framework, which no test changes."""
    return run(tmp_path_factory.mktemp(request.param), request.param, **TINY)


def check_samples(path):
    """What the run has written is what its model writes again."""
    found = summary(path)["samples"]
    assert list(found) == ["time traveller", "traveller"]
    trained = load(path)
    assert trained.write(list(found), 50) == list(found.values())


@pytest.mark.parametrize("kind", ["written out", "layers"])
def test_the_same_seed_gives_the_same_bytes_and_a_model_that_comes_back(tmp_path, tiny, kind):
    framework = summary(tiny)["framework"]
    layers = {"use_random_iter": True, "scratch": False, "model": "lstm", "num_layers": 2}
    settings = TINY if kind == "written out" else {**TINY, **layers}
    first = tiny if kind == "written out" else run(tmp_path, framework, **settings)
    again = run(tmp_path, framework, **settings)
    assert same(first, again)
    assert summary(first)["samples"] == summary(again)["samples"]
    check_samples(first)


@pytest.mark.parametrize("scratch", [True, False])
def test_another_seed_gives_other_bytes(tmp_path, scratch):
    one, other = (run(tmp_path, **TINY, scratch=scratch, seed=seed) for seed in (0, 1))
    assert not same(one, other)


def test_the_summary_and_the_log_say_what_came_out(tiny):
    found = summary(tiny)
    keys = "experiment framework seed epochs perplexity heldout_perplexity tokens_per_s samples"
    assert found.keys() >= set(keys.split())
    epochs = lines(tiny)
    assert [line["epoch"] for line in epochs] == [1, 2]
    for line in epochs:
        assert line["perplexity"] == math.exp(line["loss"])
    assert found["perplexity"] == epochs[-1]["perplexity"]
    assert 15 < epochs[0]["perplexity"] < 29  # begins near the uniform 28
    shapes = {n: a.shape for n, a in RunDirectory.open(tiny).load_model().items()}
    books = {"W_xh": (28, 8), "W_hh": (8, 8), "b_h": (8,), "W_hq": (8, 28), "b_q": (28,)}
    assert shapes == books


def test_heldout_perplexity_is_that_of_unseen_text_however_it_is_cut(tmp_path):
    path = run(tmp_path, **TINY)
    trained = load(path)
    backend, model = trained.shell.backend, trained.model
    text = language_model.load_text(complete(Settings()))
    ids = trained.vocab.encode(text)[-(len(text) // 10) :]
    assert len(ids) == 17058
    found = summary(path)["heldout_perplexity"]
    assert found == pytest.approx(perplexity(mean_cross_entropy(backend, model, ids, 4, 5)), 1e-6)
    ids = np.arange(1, 28).repeat(4)
    whole = mean_cross_entropy(backend, model, ids, 1, 1000)
    assert mean_cross_entropy(backend, model, ids, 1, 7) == pytest.approx(whole, rel=1e-5)
    assert mean_cross_entropy(backend, model, ids[:1], 1, 7) is None
    half = mean_cross_entropy(backend, model, ids, 1, 7, going_through=lambda starts: starts[::2])
    assert half is None  # not the mean over something else


def test_a_short_training_learns(tmp_path):
    found = summary(run(tmp_path, max_epochs=20, num_hiddens=32, telemetry_every=0))
    assert found["perplexity"] < 15
    assert 8 < found["heldout_perplexity"] < 16


def test_a_user_text_is_used_whole_but_the_last_tenth(tmp_path):
    (tmp_path / "mine.txt").write_text("abcdefghij" * 100)
    sizes = {"num_hiddens": 4, "batch_size": 4, "num_steps": 5}
    path = run(tmp_path, text=tmp_path / "mine.txt", max_epochs=1, **sizes)
    assert lines(path)[0]["step"] in ((900 - 1) // 4 // 5, (900 - 1 - 5) // 4 // 5)


def test_of_a_long_heldout_part_the_start_is_measured_and_that_is_said(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(language_model, "MOST_MEASURED", 1000)
    measured = []

    def measure(backend, model, ids, *more):
        measured.append(ids)
        return mean_cross_entropy(backend, model, ids, *more)

    monkeypatch.setattr(language_model, "mean_cross_entropy", measure)
    run(tmp_path, **TINY)
    (ids,) = measured
    assert ids.tolist() == Vocab(TIME_MACHINE).encode(TIME_MACHINE)[-17058:-16058].tolist()
    said = capsys.readouterr().out
    assert "17,058 held out, the first 1,000 of these to measure on, 28 in the vocabulary" in said
    assert "on 1,000 characters never seen" in said


def test_a_linear_regression_cannot_be_sampled(tmp_path):
    out = short_runs.run("linear-regression", tmp_path, max_epochs=1)
    with pytest.raises(RunError, match="a language-model is needed"):
        load(out)


def test_the_closing_words_say_memorised_only_where_it_is():
    def words(trained, heldout):
        result = {"perplexity": trained, "heldout_perplexity": heldout, "tokens_per_s": 1.0}
        return explain(result, 10000, 17058, 28)

    assert "memorised" in words(1.04, 20.0)
    assert "memorised" not in words(1.3, 1.4)
    assert "memorised" not in words(9.0, 10.0)
    assert "before the first epoch" in words(None, 28.0)


@pytest.mark.parametrize("setting", [{"engine": "reference"}, {"precision": "bfloat16"}])
def test_what_only_a_model_written_out_has_is_not_taken_for_another(tmp_path, setting):
    ((name, value),) = setting.items()
    with pytest.raises(SettingError, match=f"{name}={value} .*scratch=false takes the framew"):
        run(tmp_path, **TINY, scratch=False, **setting)
    assert not any(tmp_path.iterdir())


def test_without_a_gpu_it_says_that_it_takes_the_cpu(tmp_path, capsys):
    if load_shell(FRAMEWORK).backend.devices(1):
        pytest.skip("there is a GPU")
    run(tmp_path, **TINY, num_gpus=1)
    assert "sees no GPU here: training on the CPU" in capsys.readouterr().out


@pytest.mark.parametrize(("layers", "H"), [(1, 10**7), (10**9, 512)])
def test_a_model_too_large_is_refused_at_once(layers, H):
    with pytest.raises(SettingError, match=f"num_hiddens={H:,} in num_layers={layers:,} with 28"):
        language_model.check_memory("lstm", layers, 28, H)


def test_every_layer_counts(monkeypatch):
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 0}
    monkeypatch.setattr("os.sysconf", pages.get)
    # H = 2, V = 3: 3*2 + 2*2 + 2 in the first layer, 2*2 + 2*2 + 2 in others, 2*3 + 3 at the end
    pages["SC_PHYS_PAGES"] = 3 * 4 * (12 + 2 * 10 + 9)
    language_model.check_memory("rnn", 3, 3, 2)
    pages["SC_PHYS_PAGES"] -= 1
    with pytest.raises(SettingError, match="needs 0 GiB"):
        language_model.check_memory("rnn", 3, 3, 2)


@pytest.mark.parametrize("checkpoint", ["off", "every=1min"])
def test_a_rollback_without_checkpoints_of_steps_or_epochs_leaves_no_directory(
    unrolled, tmp_path, checkpoint
):
    options = ("--set", "on_nonfinite=rollback", "--checkpoint", checkpoint, "--out", "out")
    unrolled("run", "language-model", *options).assert_refused("as every=1epoch")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_rollbacks_do_not_help_says_so_everywhere(unrolled, tmp_path):
    broken = {"on_nonfinite": "rollback", "lr": 3e38, "gradient_clip_val": 0}
    settings = {**TINY, **broken, "telemetry_every": 1}
    options = [part for name, v in settings.items() for part in ("--set", f"{name}={v}")]
    outcome = unrolled(
        "run", "language-model", *options, "--checkpoint", "every=1epoch", "--out", "out"
    )
    outcome.assert_refused("The start was gone back to 3 times")
    assert outcome.out.count(": rolled back to the start\n") == 3
    said = "Rolled back to the start 3 times: steps 2, 4, 6. Then the training stopped."
    assert said in " ".join(unrolled("diagnose", "out").out.split())
    assert said in (tmp_path / "out" / "report.html").read_text()
