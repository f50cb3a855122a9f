"""When checkpoints are written, as people say it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.checkpoints.schedule import Schedule
from unrolled.errors import SettingError


@pytest.mark.parametrize(
    ("text", "every", "unit", "keep"),
    [
        ("every=1,000steps,keep=3", 1000, "steps", 3),
        ("every=1,000,000steps", 10**6, "steps", 2),
        ("every=1_000 steps, keep=1_000", 1000, "steps", 1000),
        ("keep=1,every=5epochs", 5, "epochs", 1),
        ("keep=3,000,every=5epochs", 5, "epochs", 3000),
        (" every = 1 epoch ", 1, "epochs", 2),
        ("every=1step", 1, "steps", 2),
        ("every=10min", 600, "s", 2),
        ("every=10 Minutes", 600, "s", 2),
        ("every=1.5min", 90, "s", 2),
        ("every=30s", 30, "s", 2),
        ("every=1hour", 3600, "s", 2),
        ("every=1e3s", 1000, "s", 2),
    ],
)
def test_schedules_are_read_as_people_write_them(text, every, unit, keep):
    assert Schedule.parse(text) == Schedule(every, unit, keep)


@pytest.mark.parametrize("text", ["off", " OFF "])
def test_off_is_none(text):
    assert Schedule.parse(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' sets nothing"),
        ("every", "sets nothing"),
        ("every=", "is no finite number"),
        ("every=5", "it has none"),
        ("every=steps", "is no finite number"),
        ("every=5epohcs", "did you mean 'epochs'"),
        ("every=5ss", "is unknown"),
        ("evry=5steps", "did you mean 'every'"),
        ("every=5steps,kep=3", "did you mean 'keep'"),
        ("keep=3", "does not say how often"),
        ("every=5steps,", "'' sets nothing"),
        ("every=5steps,keep=", "is no finite number"),
        ("every=5steps,every=6steps", "every is there twice"),
        ("every=0steps", "every is 0"),
        ("every=0s", "every is 0"),
        ("every=-5min", "every is -300"),
        ("every=2.5steps", "every is 2.5; it must be a whole number of at least 1"),
        ("every=nan", "is no finite number"),
        ("every=1e400s", "is no finite number"),
        ("every=1e300s", "it must be a number above 0, at most"),
        ("every=" + "9" * 5000 + "steps", "is no finite number"),
        ("every=5steps,keep=0", "keep is 0"),
        ("every=5steps,keep=1.5", "keep is 1.5"),
        ("every=5steps,keep=all", "is no finite number"),
        ("every=1 0 0steps", "is no finite number"),
        ("every=--5steps", "is no finite number"),
        ("every=٥steps", "is no finite number"),
    ],
    ids=lambda text: text[:40],
)
def test_anything_else_is_a_setting_error_with_an_example(text, message):
    with pytest.raises(SettingError) as caught:
        Schedule.parse(text)
    assert message in str(caught.value)
    assert "every=1000steps" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "given_",
    [
        (0, "steps"),
        (1.0, "steps"),
        (True, "epochs"),
        ("5", "s"),
        (float("nan"), "s"),
        (float("inf"), "s"),
        (10**4000, "s"),
        (1, "min"),
        (1, None),
        (1, "s", 0),
        (1, "s", 2.0),
    ],
    ids=lambda values: repr(values)[:20],
)
def test_a_wrong_schedule_cannot_be_made(given_):
    with pytest.raises(SettingError):
        Schedule(*given_)


def due(schedule, epoch_steps=4, seconds=0.0, steps=12):
    """The steps at which it is due, in epochs of so many steps."""
    ends = {step: step // epoch_steps for step in range(epoch_steps, steps + 1, epoch_steps)}
    return [step for step in range(steps + 1) if schedule.due(step, ends.get(step), seconds)]


def test_when_checkpoints_are_due():
    assert due(Schedule(5, "steps"), seconds=1e9) == [5, 10]
    assert due(Schedule(1, "epochs"), seconds=1e9) == [4, 8, 12]
    assert due(Schedule(2, "epochs")) == [8]
    assert due(Schedule(30, "s"), seconds=29.9) == []
    assert due(Schedule(30, "s"), seconds=30.0) == list(range(13))
    assert not Schedule(1, "epochs").due(0, 0, 0.0)


WORDS = st.sampled_from(
    [
        *("every", "keep", "=", ",", "1", "1000", "0", "-", ".", "e", "9" * 400, "steps", "epoch"),
        *("min", "s", "h", "nan", "inf", " ", "off", "_", "\n", "é"),
    ]
)


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.lists(WORDS, max_size=10).map("".join) | st.text(max_size=20))
def test_any_text_is_a_schedule_or_a_setting_error(text):
    try:
        schedule = Schedule.parse(text)
    except SettingError:
        return
    assert schedule is None or (schedule.every > 0 and schedule.keep >= 1)
