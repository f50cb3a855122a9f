import io
import math

import pytest
from rich.console import Console

from unrolled.runs import progress
from unrolled.training.records import EpochRecord, StepRecord


class FakeTrainer:
    max_epochs = 20
    num_train_batches = 2


def epoch(number):
    return EpochRecord(number, 2 * number, 1.0, None, 1.5, 3.0, 1.0, 100, 0.5, 100)


def lines_of(monkeypatch, *, terminal, width=120):
    """What a report over 20 epochs prints; live lines are drawn over, so only the rest stays."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, soft_wrap=True)
    monkeypatch.setattr(progress, "console", lambda: console)
    report = progress.TrainingProgress(
        fields=lambda record: {},
        line=lambda record: f"loss {record.loss}",
        every=10,
        targets="tokens",
        sample=lambda: ["once upon"],
    )
    with report:
        report.on_fit_start(FakeTrainer())
        for number in range(1, 21):
            report.on_step(FakeTrainer(), StepRecord(number, 2 * number, 1.0, 50, 1.5, 1.0))
            report.on_epoch(FakeTrainer(), epoch(number))
    return file.getvalue(), report


def test_plain_lines_every_ten_epochs_with_a_sample(monkeypatch):
    text, report = lines_of(monkeypatch, terminal=False)
    lines = text.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["10/20", "20/20"]
    assert lines.count("  once upon") == 2
    assert "loss 1.0" in lines[0]
    assert "200 tokens/s" in lines[0]
    assert "gradient 1.5 -> 1" in lines[0]
    assert "left" in lines[0]
    assert "\x1b" not in text
    assert report.targets_per_s() == 200


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_of_any_width_shows_it_live(monkeypatch, width):
    text, _ = lines_of(monkeypatch, terminal=True, width=width)
    assert "\x1b[" in text  # the live line is drawn over
    assert text.count("once upon") == 2


def test_long_epochs_give_signs_of_life(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", -1.0)
    text, _ = lines_of(monkeypatch, terminal=False)
    assert "epoch 1/20 step 2  loss 1.0000" in text


def test_a_step_that_was_not_finite_is_told_once(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, force_terminal=False, width=120, soft_wrap=True)
    monkeypatch.setattr(progress, "console", lambda: console)
    report = progress.TrainingProgress(dict, str, every=10, targets="tokens")
    with report:
        report.on_fit_start(FakeTrainer())
        for done in (
            {},
            {"on_nonfinite": "skip"},
            {"on_nonfinite": "rollback", "rolled_back_to": 1},
        ):
            report.on_step(FakeTrainer(), StepRecord(1, 3, math.nan, 50, math.inf, 1.0, **done))
    assert file.getvalue().splitlines() == [
        "epoch 1/20 step 3  loss nan, gradient inf: minibatch skipped",
        "epoch 1/20 step 3  loss nan, gradient inf: rolled back to the checkpoint of step 1",
    ]


@pytest.mark.parametrize(("terminal", "after_s"), [(True, 0), (True, 1e9), (False, 0)])
def test_work_is_shown_on_a_terminal_once_it_takes_long(monkeypatch, terminal, after_s):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=80)
    monkeypatch.setattr(progress, "console", lambda: console)
    parts = progress.shown("counting [all]", iter("abc"), count=None, after_s=after_s)
    assert list(parts) == ["a", "b", "c"]
    assert ("counting [all]" in file.getvalue()) == (terminal and after_s == 0)
    assert bool(file.getvalue()) == (terminal and after_s == 0)


def test_work_that_fails_leaves_no_live_line(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(progress, "console", lambda: console)

    def parts():
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        list(progress.shown("counting", parts()))
    list(progress.shown("counting", [1]))  # a console has one live line at a time
