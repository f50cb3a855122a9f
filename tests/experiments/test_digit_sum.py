import json
from functools import partial

import numpy as np
import pytest
import short_runs
from short_runs import lines, same, summary

from installed import INSTALLED
from unrolled.data.digit_sum import as_arrays, published
from unrolled.experiments import digit_sum_training
from unrolled.models.weights import without_prefix
from unrolled.report.saved_pictures import from_dict
from unrolled.runs.directory import RunDirectory

run = partial(short_runs.run, "digit-sum", max_epochs=2, num_hiddens=5, batch_size=60, lr=0.02)


def test_every_cell_and_length_is_told(tmp_path):
    path = run(tmp_path, cells="srn,lstm", lengths="5,3")
    parts = ["srn-5", "lstm-5", "srn-3", "lstm-3"]
    found = summary(path)
    assert found["status"] == "finished"
    assert list(found["accuracy"]) == parts
    for part, result in found["accuracy"].items():
        cell, length = part.split("-")
        assert (result["cell"], result["length"]) == (cell, int(length))
        for name in ("dev_accuracy", "test_accuracy", "last_dev_accuracy", "last_test_accuracy"):
            assert 0 <= result[name] <= 1
        own = [line for line in lines(path) if line["part"] == part]
        assert [line["epoch"] for line in own] == [1, 2]
        assert [line["step"] for line in own] == [5, 10]
        accuracies = [line["dev_accuracy"] for line in own]
        assert result["dev_accuracy"] == max(accuracies)
        assert result["best_epoch"] == 1 + accuracies.index(max(accuracies))
        assert result["last_dev_accuracy"] == accuracies[-1]
    assert next(iter(lines(path)[0])) == "part"


@pytest.mark.parametrize("framework", INSTALLED)
def test_the_saved_models_have_the_accuracies_of_the_summary(tmp_path, framework):
    path = run(tmp_path, framework, cells="srn", lengths=5)
    values = without_prefix("srn-5.", RunDirectory.open(path).load_model())
    X, y = as_arrays(published([5])[5]["test"])
    p = {name: np.asarray(value, np.float64) for name, value in values.items()}
    H = np.zeros((100, 5))
    for t in range(5):  # by hand, with the saved numbers
        x = p["embedding.W"][X[:, t]]
        H = np.tanh(x @ p["rnn_model.W"] + H @ p["rnn_model.U"] + p["rnn_model.b"])
    predicted = (H @ p["linear.weight"].T + p["linear.bias"]).argmax(axis=1)
    assert summary(path)["accuracy"]["srn-5"]["test_accuracy"] == (predicted == y).mean()


def test_the_best_model_is_kept_and_not_the_last(tmp_path, monkeypatch):
    once = run(tmp_path, cells="srn", lengths=5, max_epochs=1)

    class Falls(digit_sum_training.Scores):
        count = 0

        def score(self, model, split):
            accuracy, loss = super().score(model, split)
            self.count += 1
            return (accuracy if split == "test" else 1 / self.count), loss

    monkeypatch.setattr(digit_sum_training, "Scores", Falls)
    path = run(tmp_path, cells="srn", lengths=5, max_epochs=4)
    first, result = (summary(p)["accuracy"]["srn-5"] for p in (once, path))
    assert (result["best_epoch"], result["dev_accuracy"]) == (1, 1.0)
    assert result["last_dev_accuracy"] == 0.25
    assert result["test_accuracy"] == first["test_accuracy"]
    kept, expected = (RunDirectory.open(p).load_model() for p in (path, once))
    for name, value in expected.items():
        np.testing.assert_array_equal(kept[name], value)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, again, other = (run(tmp_path, lengths=5, seed=seed) for seed in (0, 0, 1))
    files = ("metrics.jsonl", "model.safetensors", "charts.json")
    assert same(first, again, files)
    assert not same(first, other, files)


def test_the_pictures_are_accuracy_and_the_gates_of_the_shortest_length(tmp_path):
    path = run(tmp_path, cells="lstm,gru", lengths="6,4")
    pictures = {p["id"]: from_dict(p) for p in json.loads((path / "charts.json").read_text())}
    ids = ["accuracy-length", "gates-input", "gates-forget", "gates-output", "gates-cell"]
    assert list(pictures) == ids
    accuracy = pictures["accuracy-length"]
    assert [line.label for line in accuracy.series] == [
        f"{cell}, {split}" for cell in ("lstm", "gru") for split in ("validation", "test")
    ]
    found = summary(path)["accuracy"]
    assert accuracy.series[1].x == [4, 6]
    expected = [found[f"lstm-{length}"]["test_accuracy"] for length in (4, 6)]
    assert accuracy.series[1].y == pytest.approx(expected)
    digits = published([4])[4]["test"][67][0]
    for name in ids[1:]:
        heatmap = pictures[name]
        assert np.shape(heatmap.values) == (4, 5)
        assert heatmap.column_labels == [f"{t}: {d}" for t, d in enumerate(digits, 1)]
        assert " ".join(map(str, digits)) in heatmap.caption
    for name in ids[1:4]:
        assert 0 < np.min(pictures[name].values) < np.max(pictures[name].values) < 1


def test_the_forget_gates_begin_open_unless_drawn(tmp_path):
    means = []
    for bias in ("1", "none"):
        path = run(tmp_path, cells="lstm", lengths=3, forget_bias=bias, max_epochs=1, lr=1e-9)
        values = RunDirectory.open(path).load_model()
        means.append(values["lstm-3.rnn_model.b_f"].mean())
    assert means[0] == pytest.approx(1, abs=1e-5)
    assert abs(means[1]) < 0.5


def test_an_interrupted_run_keeps_what_it_has(tmp_path, monkeypatch):
    class Stops(digit_sum_training.Scores):
        def on_epoch(self, trainer, epoch):
            super().on_epoch(trainer, epoch)
            trainer.stop()

    monkeypatch.setattr(digit_sum_training, "Scores", Stops)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lengths=5)
    (path,) = tmp_path.iterdir()
    found = summary(path)
    assert found["status"] == "interrupted"
    assert list(found["accuracy"]) == ["srn-5"]
    assert RunDirectory.open(path).load_model().keys() >= {"srn-5.rnn_model.W"}


@pytest.mark.parametrize(("size", "told"), [(300, ""), (1024, "more than the 300 examples")])
def test_a_batch_size_beyond_the_examples_is_told_of(capsys, size, told):
    digit_sum_training.tell_of_whole_batches(size)
    out = capsys.readouterr().out
    assert told in out
    assert bool(out) == bool(told)
