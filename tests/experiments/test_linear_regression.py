import math

import pytest
from short_runs import run, summary

from installed import FRAMEWORK, INSTALLED
from unrolled.experiments.linear_regression import Settings, explain


def found_by(folder, framework, **settings):
    return summary(run("linear-regression", folder, framework, **settings))


FIRST_SEEDS = [(FRAMEWORK, 1), *((name, 0) for name in INSTALLED)]
KEYS = {"experiment", "framework", "seed", "w", "b", "error_w", "error_b", "loss"}


@pytest.mark.parametrize(("framework", "seed"), FIRST_SEEDS)
def test_three_epochs_leave_errors_of_the_published_size(tmp_path, framework, seed):
    found = found_by(tmp_path, framework, seed=seed)
    assert found.keys() >= KEYS
    assert found["error_w"] == [2.0 - found["w"][0], -3.4 - found["w"][1]]
    w1, w2 = found["error_w"]
    assert 0.03 < w1 < 0.20  # published: 0.07 to 0.11
    assert -0.28 < w2 < -0.08  # published: -0.12 to -0.18
    assert 0.14 < found["error_b"] < 0.30  # published: 0.19 to 0.24


@pytest.mark.parametrize("framework", INSTALLED)
@pytest.mark.parametrize("scratch", ["true", "false"])
def test_ten_epochs_come_within_the_noise(tmp_path, framework, scratch):
    found = found_by(tmp_path, framework, max_epochs=10, scratch=scratch)
    assert max(map(abs, (*found["error_w"], found["error_b"]))) < 0.01  # the noise itself
    assert found["loss"] == pytest.approx(0.01**2 / (2 if scratch == "true" else 1), rel=0.2)


def test_the_explanation_counts_right():
    assert f"{0.97**96:.1%}" == "5.4%"
    assert explain(Settings(), 3) == (
        "From zero, 96 updates at lr 0.03 leave about (1 - 0.03)^96 = 5.4% of each parameter\n"
        "unlearned: 3 epochs are few. More bring the errors down to the noise:\n"
        "--set max_epochs=10"
    )
    assert "noise" in explain(Settings(), 10)
    assert f"{0.94**32:.1%}" in explain(Settings(scratch=False), 1)
    assert "smaller" in explain(Settings(lr=2.5), 3)
    enough = int(explain(Settings(lr=0.001), 3).split("max_epochs=")[1])
    assert math.isclose(0.999 ** (32 * enough), 0.001, rel_tol=0.05)


@pytest.mark.parametrize("num_train", [1, 2])
def test_fewer_examples_than_parameters_are_told_of(num_train):
    text = explain(Settings(num_train=num_train), epochs=1000)
    assert "fewer examples than parameters" in text
    assert "noise" not in text
