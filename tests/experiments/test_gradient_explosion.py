import json
import math
import statistics
from functools import partial

import numpy as np
import pytest
import short_runs
from short_runs import lines, same, summary

from installed import INSTALLED
from unrolled.errors import NotFiniteError
from unrolled.experiments.gradient_explosion import explain, verdict
from unrolled.experiments.norms import dead_from
from unrolled.report.saved_pictures import from_dict
from unrolled.runs.directory import RunDirectory
from unrolled.telemetry.records import TelemetryRecord

SHORT = {"max_epochs": 3, "adam_epochs": 2, "num_hiddens": 6, "length": 8, "batch_size": 100}

run = partial(short_runs.run, "gradient-explosion")


def records(path, part):
    parsed = lines(path, "telemetry.jsonl")
    return [TelemetryRecord.from_dict(data) for data in parsed if data["part"] == part]


@pytest.mark.parametrize("framework", INSTALLED)
def test_every_step_of_every_part_is_recorded(tmp_path, framework):
    path = run(tmp_path, framework, **SHORT)
    found = summary(path)["parts"]
    assert list(found) == ["unclipped", "clipped", "learns"]
    for part, epochs in (("unclipped", 3), ("clipped", 3), ("learns", 2)):
        steps = records(path, part)
        assert [record.step for record in steps] == list(range(1, 3 * epochs + 1))
        for record in steps:
            parameters = record.parameters
            norms = [p.gradient_norm for p in parameters.values()]
            assert math.hypot(*norms) == pytest.approx(record.gradient_norm, rel=1e-4)
            clipped = [p.clipped_norm for p in parameters.values()]
            assert math.hypot(*clipped) == pytest.approx(record.clipped_norm, rel=1e-4, abs=1e-9)
            if part == "unclipped":
                assert (record.clip_method, record.clip_coefficient) == (None, 1)
            else:
                assert (record.clip_method, record.clip_threshold) == ("global_norm", 20)
                assert record.clipped_norm == pytest.approx(min(record.gradient_norm, 20))
            (layer,) = record.layers.values()
            assert len(layer.hidden_gradient_mean) == 8
            assert 0 <= layer.saturated <= 1
        for name in ("W", "U", "b"):
            norms = [record.parameters[f"rnn_model.{name}"].gradient_norm for record in steps]
            told = found[part][name]
            assert (told["first"], told["peak"]) == (norms[0], max(norms))
            assert norms[told["peak_step"] - 1] == told["peak"]
            assert told["median"] is None  # so few steps
    first = [records(path, part)[0] for part in found]  # all from the same start
    for record in first[1:]:
        assert record.loss == pytest.approx(first[0].loss, rel=1e-6)
        assert record.gradient_norm == pytest.approx(first[0].gradient_norm, rel=1e-5)
    values = RunDirectory.open(path).load_model()
    assert {name.partition(".")[0] for name in values} == {"unclipped", "clipped", "learns"}
    metrics = lines(path)
    parts = [*["unclipped"] * 3, *["clipped"] * 3, *["learns"] * 2]
    assert [line["part"] for line in metrics] == parts
    assert metrics[0]["loss"] == pytest.approx(math.log(19), rel=0.9)  # of one sequence


def test_the_published_settings_explode_and_die_and_clipped_ones_live(tmp_path):
    path = run(tmp_path, seed=2, adam_epochs=60, adam_lr=0.01)
    unclipped, clipped, learns = summary(path)["parts"].values()
    # one rounding more or less changes the course of it, so only what every course has
    assert unclipped["exploded"]
    assert unclipped["W"]["peak"] > 10 * unclipped["W"]["first"]
    assert unclipped["W"]["peak_step"] < 100
    assert unclipped["saturated_last"] > 0.8
    assert unclipped["W"]["median"] < 0.01 * unclipped["W"]["first"]
    assert clipped["W"]["median"] > 100 * unclipped["W"]["median"]
    assert 0.01 < clipped["W"]["clipped_median"] < 20
    assert unclipped["W"]["clipped_median"] == unclipped["W"]["median"]
    for part in (unclipped, clipped):  # neither has learned: guessing gives 0.1
        assert part["test_accuracy"] < 0.25
    assert learns["test_accuracy"] > 0.25


@pytest.mark.long
@pytest.mark.skipif("torch" not in INSTALLED, reason="PyTorch is not installed")
def test_clipped_gradients_are_as_long_as_published_in_most_courses(tmp_path):
    paths = [run(tmp_path, seed=seed, adam_epochs=0) for seed in range(9)]
    clipped = [summary(path)["parts"]["clipped"]["W"]["clipped_median"] for path in paths]
    assert 0.9 < statistics.median(clipped) < 13  # as published


@pytest.mark.parametrize("method", ["per_tensor", "value"])
def test_every_form_of_clipping_is_there_by_name(tmp_path, method):
    clip = {"gradient_clip_method": method, "gradient_clip_val": 5, "adam_epochs": 0}
    path = run(tmp_path, **{**SHORT, **clip})
    assert list(summary(path)["parts"]) == ["unclipped", "clipped"]
    for record in records(path, "clipped"):
        assert record.clip_method == method
        if method == "per_tensor":
            for parameter in record.parameters.values():
                limit = min(parameter.gradient_norm, 5)
                assert parameter.clipped_norm == pytest.approx(limit, rel=1e-5)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, again, other = (run(tmp_path, seed=seed, **SHORT) for seed in (0, 0, 1))
    files = ("metrics.jsonl", "telemetry.jsonl", "model.safetensors", "charts.json")
    assert same(first, again, files)
    assert not same(first, other, files)


def test_every_picture_says_which_norm_it_shows(tmp_path):
    path = run(tmp_path, **{**SHORT, "max_epochs": 40, "adam_epochs": 0})
    pictures = [from_dict(p) for p in json.loads((path / "charts.json").read_text())]
    assert [p.id for p in pictures] == [
        "norms-unclipped-before",
        "norms-clipped-before",
        "norms-clipped-after",
    ]
    for picture, shown in zip(pictures, (40, 100, 100), strict=True):
        kind = f"{picture.id.rpartition('-')[2]} clipping"
        assert kind in picture.title
        assert picture.y.title == f"L2 norm {kind}"
        assert [line.label for line in picture.series] == ["W", "U", "b"]
        assert {len(line.y) for line in picture.series} == {shown}
    after = np.array([line.y for line in pictures[2].series])
    assert np.sqrt((after**2).sum(axis=0)).max() <= 20 * (1 + 1e-4)


def test_a_training_that_diverges_is_told_and_the_others_go_on(tmp_path):
    with pytest.raises(NotFiniteError):
        run(tmp_path, lr=1e38, **SHORT)
    (path,) = tmp_path.iterdir()
    found = summary(path)
    assert found["status"] == "diverged"
    assert "learns" in found["parts"]


def test_dead_is_what_never_comes_back():
    silence = [0.001] * 20
    assert dead_from([1.0, 0.001, 0.5, 0.5, *silence]) == 5
    assert dead_from([1.0, *silence, 0.5, 0.5]) is None
    assert dead_from([1.0, *silence[1:]]) is None  # too short to tell
    assert dead_from([1.0, *silence, math.nan, math.nan]) is None
    assert dead_from([1.0, *silence, 0.5, *silence]) == 2  # one burst in 41 steps is none
    assert dead_from([]) is None


def test_the_words_say_what_was_measured():
    part = {
        "training": "SGD",
        "W": {"first": 29.0, "peak": 5e3, "peak_step": 3, "median": 8.0, "clipped_median": 2.5},
        "exploded": True,
        "dead_step": None,
        "saturated_when_dead": None,
        "test_accuracy": 0.09,
    }
    dead = {**part, "dead_step": 38, "saturated_when_dead": 0.99}
    text = explain({"unclipped": dead, "clipped": part, "learns": {**part, "test_accuracy": 0.8}})
    assert "from 29 to 5e+03 at step 3" in text
    assert "dead from step 38 on, with 99.0% of the units saturated" in text
    assert "its median after step 100 is 8, and 2.5 when clipped" in text
    assert (
        "Clipping kept the gradient alive. It did not make the network learn: test accuracy 0.09, "
        "and\n0.09 without clipping, where guessing gives 0.10."
    ) in text
    assert "reaches 0.80" in text
    assert "made no difference" in verdict(part, part)
    assert "It made the network learn" in verdict(dead, {**part, "test_accuracy": 0.6})
