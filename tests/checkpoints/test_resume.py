"""Runs that are killed, stopped or damaged, and resumed: the short form of `make torture`."""

import shutil
import signal

import pytest

from installed import FRAMEWORK, INSTALLED
from torture import bad_input, damage, fields, resumes
from torture.outcome import Outcome
from torture.processes import Command, Death, at, call, send, wait_for
from torture.runs import PLANS, Reference, drawn
from torture.surroundings import in_use

KILLED = {"torch": "digit-sum", "jax": "rnn", "tensorflow": "gru-layer-random", "mxnet": "gru"}
"""The plan that is killed in each framework."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped."""
    return Reference(PLANS["rnn"], FRAMEWORK, tmp_path_factory.mktemp("straight"))


@pytest.fixture(scope="module")
def kept(straight):
    """A run that was killed after a checkpoint in the middle of an epoch; no test may change it."""
    attempt = straight.new("kept")
    attempt.start(patches=[(at, "on_step", 15, send, signal.SIGKILL)])
    return attempt


@pytest.fixture
def killed(straight, kept):
    """A copy of it."""
    attempt = straight.new("copy")
    shutil.copytree(kept.path, attempt.path)
    yield attempt
    attempt.remove()


@pytest.mark.parametrize("framework", INSTALLED)
def test_a_run_killed_inside_a_save_ends_with_the_same_bytes(framework, tmp_path):
    reference = Reference(PLANS[KILLED[framework]], framework, tmp_path)
    attempt = reference.new("killed")
    death = Death(reference.ended.first + 8, "torn")  # inside the second save
    assert attempt.start(death=death).code == -signal.SIGKILL
    assert attempt.resume().code == 0
    assert attempt.wrong() == []


@pytest.mark.parametrize("plan", ["digit-sum", "gradient-explosion"])
def test_a_run_of_several_models_is_resumed_in_any_of_them(plan, tmp_path):
    reference = Reference(PLANS[plan], FRAMEWORK, tmp_path)
    attempt = reference.new("killed")
    first, calls = reference.ended.first, reference.ended.calls
    assert attempt.start(death=Death((first + calls) // 2)).code == -signal.SIGKILL
    assert attempt.resume(death=Death(40, "after")).code == -signal.SIGKILL
    assert attempt.resume().code == 0
    assert attempt.wrong() == []


def test_a_save_killed_at_its_last_calls_leaves_nothing_behind(tmp_path):
    reference = Reference(PLANS["lstm-random"], FRAMEWORK, tmp_path)  # it keeps one
    for back in range(4, 24, 5):
        attempt = reference.new("killed")
        assert attempt.start(death=Death(reference.ended.calls - back)).code == -signal.SIGKILL
        attempt.resume()
        (attempt.path / "running.lock").unlink(missing_ok=True)  # where it was finished
        assert attempt.wrong() == []


@pytest.mark.parametrize(
    "name",
    [
        "three resumes in an epoch",
        "before the first step",
        "at the last step of an epoch",
        "killed in the last epoch",
        "at the last step",
        "killed after the last step",
        "two Ctrl-C",
    ],
)
def test_a_run_stopped_anywhere_ends_with_the_same_bytes(name, straight):
    assert resumes.stopped(straight.new("stopped"), resumes.STOPS[name]) == []


@pytest.mark.parametrize("field", ["position", "hidden_state", "sums", "optimizer"])
def test_a_field_that_is_missing_is_noticed(field, killed):
    fields.put(killed, fields.changed(fields.state_of(killed), (field,)))
    assert fields.noticed(killed.resume(), lambda: bool(killed.wrong()))


@pytest.mark.parametrize("case", range(10))
def test_damage_is_refused_or_recovered_from(case, killed):
    draw = drawn("test", case)
    name, _ = damage.damage(killed.path, draw)
    assert "WRONG" not in damage.judge(killed, killed.resume(), [name])


@pytest.mark.parametrize(
    "name", ["another experiment", "another format", "fewer epochs", "another learning rate"]
)
def test_what_cannot_be_resumed_says_why(name, killed):
    spoil, arguments, expected = bad_input.REFUSED[name]
    spoil(killed.path)
    ended = killed.resume(*arguments)
    assert ended.is_error
    assert expected in ended.text


def test_more_epochs_are_those_of_a_longer_run(straight):
    outcome = Outcome("more epochs")
    bad_input.epochs(outcome, straight)
    assert outcome.failures == []


def test_a_second_process_is_not_let_in(straight, tmp_path):
    attempt = straight.new("twice")
    first = Command(attempt.first, attempt.log, patches=[(at, "on_step", 12, signal.pause)])
    wait_for(attempt.path / "checkpoints/step-000012", first)
    assert in_use(call(*attempt.again, log=tmp_path / "second.log"), first)
    first.kill()
    first.wait()
    assert attempt.resume().code == 0
    assert attempt.wrong() == []
