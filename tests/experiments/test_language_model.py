import json
import math

import numpy as np
import pytest

from installed import INSTALLED
from unrolled import experiments
from unrolled.errors import RunError, SettingError
from unrolled.experiments import language_model
from unrolled.experiments.language_model import Settings, complete, explain, load
from unrolled.frameworks import load as load_shell
from unrolled.functional.losses import perplexity
from unrolled.training.evaluation import mean_cross_entropy

TINY = ("max_epochs=2", "num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")
TINY += ("telemetry_every=0",)  # its own tests have it; compilers would take seconds more

pytestmark = pytest.mark.parametrize("framework", INSTALLED)


def run(tmp_path, framework, *assignments, seed=0):
    out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    return experiments.run("language-model", (*assignments,), framework, seed, out)


def summary(path):
    return json.loads((path / "summary.json").read_text())


def test_the_same_seed_gives_the_same_bytes(tmp_path, framework):
    for extra in ((), ("use_random_iter=true",), ("scratch=false", "model=lstm")):
        first, again = (run(tmp_path, framework, *TINY, *extra) for _ in range(2))
        other = run(tmp_path, framework, *TINY, *extra, seed=1)
        for name in ("metrics.jsonl", "model.safetensors"):
            assert (first / name).read_bytes() == (again / name).read_bytes()
            assert (first / name).read_bytes() != (other / name).read_bytes()
        assert summary(first)["samples"] == summary(again)["samples"]


@pytest.mark.parametrize(
    ("model", "scratch", "num_layers"),
    [
        *((model, scratch, 1) for model in ("rnn", "gru", "lstm") for scratch in ("true", "false")),
        *(("gru", "true", 2), ("lstm", "false", 2)),
    ],
)
def test_every_model_runs_and_comes_back(tmp_path, framework, model, scratch, num_layers):
    sizes = (f"model={model}", f"scratch={scratch}", f"num_layers={num_layers}")
    path = run(tmp_path, framework, *TINY, *sizes)
    found = summary(path)
    keys = "experiment framework seed epochs perplexity heldout_perplexity tokens_per_s samples"
    assert found.keys() >= set(keys.split())
    assert found["framework"] == framework
    assert list(found["samples"]) == ["time traveller", "traveller"]
    trained = load(path)
    for prefix, text in found["samples"].items():
        assert trained.write(prefix, 50) == text


def test_perplexity_is_the_exponential_of_the_mean_over_all_tokens(tmp_path, framework):
    path = run(tmp_path, framework, *TINY)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert line["perplexity"] == math.exp(line["loss"])
    assert summary(path)["perplexity"] == lines[-1]["perplexity"]
    assert 15 < lines[0]["perplexity"] < 29  # begins near the uniform 28


def test_heldout_perplexity_is_that_of_unseen_text(tmp_path, framework):
    path = run(tmp_path, framework, *TINY)
    trained = load(path)
    text = language_model.load_text(complete(Settings()))
    ids = trained.vocab.encode(text)[-(len(text) // 10) :]
    assert len(ids) == 17058
    loss = mean_cross_entropy(trained.shell.backend, trained.model, ids, 4, 5)
    assert summary(path)["heldout_perplexity"] == pytest.approx(perplexity(loss), rel=1e-6)


def test_a_short_training_learns(tmp_path, framework):
    path = run(tmp_path, framework, "max_epochs=20", "num_hiddens=64", "lr=1")
    found = summary(path)
    assert found["perplexity"] < 15
    assert 8 < found["heldout_perplexity"] < 16


def test_a_user_text_is_used_whole_but_the_last_tenth(tmp_path, framework):
    (tmp_path / "mine.txt").write_text("abcdefghij" * 100)
    path = run(
        tmp_path,
        framework,
        f"text={tmp_path / 'mine.txt'}",
        "max_epochs=1",
        "num_hiddens=4",
        "batch_size=2",
        "num_steps=5",
    )
    step = json.loads((path / "metrics.jsonl").read_text())["step"]
    assert step in ((900 - 1) // 2 // 5, (900 - 1 - 5) // 2 // 5)


def test_a_linear_regression_cannot_be_sampled(tmp_path, framework):
    out = tmp_path / "other"
    experiments.run("linear-regression", ("max_epochs=1",), framework, 0, out)
    with pytest.raises(RunError, match="a language-model is needed"):
        load(out)


def test_parameters_are_saved_under_the_books_names(tmp_path, framework):
    from safetensors.numpy import load_file

    path = run(tmp_path, framework, *TINY)
    shapes = {n: a.shape for n, a in load_file(path / "model.safetensors").items()}
    assert shapes == {
        "W_xh": (28, 8),
        "W_hh": (8, 8),
        "b_h": (8,),
        "W_hq": (8, 28),
        "b_q": (28,),
    }


def test_the_closing_words_say_memorised_only_where_it_is(framework):
    def words(trained, heldout):
        result = {"perplexity": trained, "heldout_perplexity": heldout, "tokens_per_s": 1.0}
        return explain(result, 10000, 17058, 28)

    assert "memorised" in words(1.04, 20.0)
    assert "memorised" not in words(1.3, 1.4)
    assert "memorised" not in words(9.0, 10.0)
    assert "before the first epoch" in words(None, 28.0)


def test_heldout_loss_does_not_depend_on_how_it_is_cut(tmp_path, framework):
    trained = load(run(tmp_path, framework, *TINY))
    ids = np.arange(1, 28).repeat(4)
    backend, model = trained.shell.backend, trained.model
    whole = mean_cross_entropy(backend, model, ids, 1, 1000)
    assert mean_cross_entropy(backend, model, ids, 1, 7) == pytest.approx(whole, rel=1e-5)
    assert mean_cross_entropy(backend, model, ids[:1], 1, 7) is None
    half = mean_cross_entropy(backend, model, ids, 1, 7, going_through=lambda starts: starts[::2])
    assert half is None  # not the mean over something else


@pytest.mark.parametrize("setting", ["engine=reference", "precision=bfloat16"])
def test_what_only_a_model_written_out_has_is_not_taken_for_another(tmp_path, framework, setting):
    with pytest.raises(SettingError, match=f"{setting} .*scratch=false takes the framew"):
        run(tmp_path, framework, *TINY, "scratch=false", setting)
    assert not any(tmp_path.iterdir())


def test_without_a_gpu_it_says_that_it_takes_the_cpu(tmp_path, framework, capsys):
    if load_shell(framework).backend.devices(1):
        pytest.skip("there is a GPU")
    run(tmp_path, framework, *TINY, "num_gpus=1")
    assert "sees no GPU here: training on the CPU" in capsys.readouterr().out
