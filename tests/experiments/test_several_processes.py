"""Runs by several processes: the numbers of one, one run directory, one message."""

import json
import signal
import sys
from pathlib import Path

import pytest

from installed import INSTALLED
from torture.processes import Ended, at, send
from torture.runs import PLANS, Reference, drawn
from torture.workers import add_arguments, begin, compare, lose, together
from unrolled import cli
from unrolled.errors import RunError, SettingError
from unrolled.runs.directory import RunDirectory
from unrolled.runs.followed import FollowedRun

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif("torch" not in INSTALLED, reason="PyTorch is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked"),
]


@pytest.fixture(scope="module", params=["rnn", "lstm-random"])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(PLANS[request.param], "torch", tmp_path_factory.mktemp(request.param))


def errors(ended: list[Ended]) -> list[str]:
    """The error lines of all processes."""
    return [line for each in ended for line in each.text.splitlines() if "error: " in line]


def test_two_processes_write_the_run_of_one(alone: Reference) -> None:
    attempt = alone.new("two")
    assert [each.code for each in together(attempt.first, attempt.log, 2)] == [0, 0]
    assert compare(alone.path, attempt.path)[1] == []
    samples = [json.loads((run / "summary.json").read_text())["samples"] for run in
               (alone.path, attempt.path)]  # fmt: skip
    assert samples[0] == samples[1]
    names = [{p.name for p in run.iterdir()} for run in (alone.path, attempt.path)]
    assert names[0] == names[1]


def test_a_signal_to_any_process_stops_all_and_four_go_on(alone: Reference) -> None:
    attempt = alone.new("stopped")
    stop = at, "on_step", 8, send, signal.SIGTERM
    running = begin(attempt.first, attempt.log, 2, {1: [stop]})
    ended = [each.wait() for each in running]
    assert [each.code for each in ended] == [143, 143]
    assert {line.removeprefix("error: ") for line in errors(ended)} == {"stopped by SIGTERM"}
    together(attempt.again, attempt.log, 4)
    assert compare(alone.path, attempt.path)[1] == []


def test_a_killed_process_ends_the_others_with_one_message(alone: Reference) -> None:
    attempt = alone.new("killed")
    for victim in (0, 1):
        _, _, wrong = lose(attempt, 2, victim, drawn("killed", victim))
        assert wrong == []
        assert [each.code for each in together(attempt.again, attempt.log, 1)] == [0]
        assert compare(alone.path, attempt.path)[1] == []
        attempt.remove()


def test_processes_with_other_settings_are_told_apart(tmp_path: Path) -> None:
    plan = PLANS["rnn"]
    arguments = plan.arguments("torch", tmp_path / "run")
    own = {1: [(add_arguments, "--set", "lr=0.5")]}
    ended = [each.wait() for each in begin(arguments, tmp_path / "log", 2, own)]
    assert ended[0].code == 2
    assert ended[1].code in (2, 3)  # its own error, or that of process 0 was faster
    assert all("settings lr is 0.5 and 1.0 there" in line for line in errors(ended))
    assert not (tmp_path / "run").exists()


def test_minibatches_that_cannot_be_divided_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from unrolled.experiments import check_before_launch

    with pytest.raises(SettingError, match="take 1, 2, 4, 8, 16, 32 of them, or batch_size 30"):
        check_before_launch("language-model", (), "torch", 3, None)
    with pytest.raises(RunError, match="is not a run directory"):
        check_before_launch(None, (), "torch", 2, Path("nothing-here"))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match="one of 4 processes that were started together"):
        cli.cli.main(
            ["run", "language-model", "--processes", "2"], "unrolled", standalone_mode=False
        )


def test_another_process_writes_nothing(tmp_path: Path) -> None:
    made = RunDirectory.create(tmp_path / "run")
    made.begin({"experiment": "x", "framework": "numpy", "seed": 0, "settings": {}})
    before = {path: path.read_bytes() for path in made.path.rglob("*")}
    followed = FollowedRun.take(made.path)
    with followed.all_or_nothing(), followed:
        followed.begin({})
        followed.write_json("config.json", {})
        followed.lines("metrics.jsonl")({})
        followed.save_model({})
        followed.go_on({}, {}, {}, None)
        followed.remove_tree(made.path)
        followed.end({})
    assert {path: path.read_bytes() for path in made.path.rglob("*")} == before
    assert followed.read_config()["framework"] == "numpy"
