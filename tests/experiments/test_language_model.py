import json
import math

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from unrolled import experiments
from unrolled.errors import RunError, SettingError
from unrolled.experiments import language_model
from unrolled.experiments.language_model import Settings, complete, explain, load
from unrolled.frameworks import load as load_shell
from unrolled.functional.losses import perplexity
from unrolled.training.evaluation import mean_cross_entropy

TINY = ("max_epochs=2", "num_hiddens=8", "batch_size=4", "num_steps=5", "max_tokens=200")
TINY += ("telemetry_every=0",)  # its own tests have it; compilers would take seconds more

on_each = pytest.mark.parametrize("framework", INSTALLED)


def run(folder, framework, *assignments, seed=0):
    out = folder / f"run-{len(list(folder.iterdir()))}"
    return experiments.run("language-model", (*assignments,), framework, seed, out)


def summary(path):
    return json.loads((path / "summary.json").read_text())


@pytest.fixture(scope="module", params=INSTALLED)
def tiny(request, tmp_path_factory):
    """A tiny run of each framework, which no test changes."""
    return run(tmp_path_factory.mktemp(request.param), request.param, *TINY)


def test_the_same_seed_gives_the_same_bytes(tmp_path, tiny):
    framework = summary(tiny)["framework"]
    other_kind = ("use_random_iter=true", "scratch=false", "model=lstm")
    again, other = (run(tmp_path, framework, *TINY, seed=seed) for seed in (0, 1))
    layers = [run(tmp_path, framework, *TINY, *other_kind) for _ in range(2)]
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tiny / name).read_bytes() == (again / name).read_bytes()
        assert (tiny / name).read_bytes() != (other / name).read_bytes()
        assert (layers[0] / name).read_bytes() == (layers[1] / name).read_bytes()
    assert summary(tiny)["samples"] == summary(again)["samples"]
    check_samples(layers[0])


def check_samples(path):
    """What the run has written is what its model writes again."""
    found = summary(path)["samples"]
    assert list(found) == ["time traveller", "traveller"]
    trained = load(path)
    for prefix, text in found.items():
        assert trained.write(prefix, 50) == text


@on_each
@pytest.mark.parametrize(
    ("model", "scratch", "num_layers"), [("gru", "true", 2), ("gru", "false", 1)]
)
def test_every_model_runs_and_comes_back(tmp_path, framework, model, scratch, num_layers):
    # and each kind in some framework: test_convert.py
    sizes = (f"model={model}", f"scratch={scratch}", f"num_layers={num_layers}")
    check_samples(run(tmp_path, framework, *TINY, *sizes))


def test_the_summary_says_what_came_out(tiny):
    found = summary(tiny)
    keys = "experiment framework seed epochs perplexity heldout_perplexity tokens_per_s samples"
    assert found.keys() >= set(keys.split())
    check_samples(tiny)


def test_perplexity_is_the_exponential_of_the_mean_over_all_tokens(tiny):
    lines = [json.loads(line) for line in (tiny / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert line["perplexity"] == math.exp(line["loss"])
    assert summary(tiny)["perplexity"] == lines[-1]["perplexity"]
    assert 15 < lines[0]["perplexity"] < 29  # begins near the uniform 28


def test_heldout_perplexity_is_that_of_unseen_text(tiny):
    trained = load(tiny)
    text = language_model.load_text(complete(Settings()))
    ids = trained.vocab.encode(text)[-(len(text) // 10) :]
    assert len(ids) == 17058
    loss = mean_cross_entropy(trained.shell.backend, trained.model, ids, 4, 5)
    assert summary(tiny)["heldout_perplexity"] == pytest.approx(perplexity(loss), rel=1e-6)


def test_heldout_loss_does_not_depend_on_how_it_is_cut(tiny):
    trained = load(tiny)
    ids = np.arange(1, 28).repeat(4)
    backend, model = trained.shell.backend, trained.model
    whole = mean_cross_entropy(backend, model, ids, 1, 1000)
    assert mean_cross_entropy(backend, model, ids, 1, 7) == pytest.approx(whole, rel=1e-5)
    assert mean_cross_entropy(backend, model, ids[:1], 1, 7) is None
    half = mean_cross_entropy(backend, model, ids, 1, 7, going_through=lambda starts: starts[::2])
    assert half is None  # not the mean over something else


def test_parameters_are_saved_under_the_books_names(tiny):
    from safetensors.numpy import load_file

    shapes = {n: a.shape for n, a in load_file(tiny / "model.safetensors").items()}
    assert shapes == {
        "W_xh": (28, 8),
        "W_hh": (8, 8),
        "b_h": (8,),
        "W_hq": (8, 28),
        "b_q": (28,),
    }


@on_each
def test_a_short_training_learns(tmp_path, framework):
    path = run(tmp_path, framework, "max_epochs=20", "num_hiddens=32", "telemetry_every=0")
    found = summary(path)
    assert found["perplexity"] < 15
    assert 8 < found["heldout_perplexity"] < 16


def test_a_user_text_is_used_whole_but_the_last_tenth(tmp_path):
    (tmp_path / "mine.txt").write_text("abcdefghij" * 100)
    text = f"text={tmp_path / 'mine.txt'}"
    path = run(tmp_path, FRAMEWORK, text, "max_epochs=1", "num_hiddens=4", *TINY[2:4])
    step = json.loads((path / "metrics.jsonl").read_text())["step"]
    assert step in ((900 - 1) // 4 // 5, (900 - 1 - 5) // 4 // 5)


def test_a_linear_regression_cannot_be_sampled(tmp_path):
    out = tmp_path / "other"
    experiments.run("linear-regression", ("max_epochs=1",), FRAMEWORK, 0, out)
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


@pytest.mark.parametrize("setting", ["engine=reference", "precision=bfloat16"])
def test_what_only_a_model_written_out_has_is_not_taken_for_another(tmp_path, setting):
    with pytest.raises(SettingError, match=f"{setting} .*scratch=false takes the framew"):
        run(tmp_path, FRAMEWORK, *TINY, "scratch=false", setting)
    assert not any(tmp_path.iterdir())


def test_without_a_gpu_it_says_that_it_takes_the_cpu(tmp_path, capsys):
    if load_shell(FRAMEWORK).backend.devices(1):
        pytest.skip("there is a GPU")
    run(tmp_path, FRAMEWORK, *TINY, "num_gpus=1")
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
