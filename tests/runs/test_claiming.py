"""Processes that want one run directory at the same moment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unrolled import locking
from unrolled.errors import RunError
from unrolled.runs.claiming import check_free, claim
from unrolled.runs.directory import RunDirectory
from unrolled.watch.record_store import make_directory

pytest.importorskip("fcntl")

RACE = """
import os, sys
from pathlib import Path
from unrolled.errors import RunError
from unrolled.runs.directory import RunDirectory
print(flush=True)
for name in sys.stdin:
    try:
        directory = RunDirectory.create(Path(name.strip(), "run"))
        with directory.all_or_nothing():
            directory.begin({"process": os.getpid()})
    except RunError as error:
        print(error, flush=True)
    else:
        print("made", flush=True)
"""

MAKE = """
import sys
from pathlib import Path
from pathlib import Path
from unrolled.runs.directory import RunDirectory
directory = RunDirectory.create(Path("run"))
directory.begin({"experiment": "watch", "framework": "torch", "seed": None, "settings": {}})
print(flush=True)
sys.stdin.read()
"""


def start(tmp_path, code):
    command = [sys.executable, "-c", code]
    return subprocess.Popen(
        command, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.fixture
def running(tmp_path):
    """A run of another process."""
    with start(tmp_path, MAKE) as process:
        process.stdout.readline()
        yield tmp_path / "run"


def test_of_processes_that_race_for_a_directory_one_gets_it_and_the_others_say_why(tmp_path):
    racers = [start(tmp_path, RACE) for _ in range(3)]
    for racer in racers:
        racer.stdout.readline()
    for number in range(10):
        for racer in racers:
            racer.stdin.write(f"{number}\n")
            racer.stdin.flush()
        said = [racer.stdout.readline() for racer in racers]
        (winner,) = (racer for racer, word in zip(racers, said, strict=True) if word == "made\n")
        run = tmp_path / str(number) / "run"
        assert sum(f"in use by process {winner.pid} on" in word for word in said) == 2, said
        assert json.loads((run / "config.json").read_text()) == {"process": winner.pid}
        assert {file.name for file in run.iterdir()} == {
            "config.json",
            "environment.json",
            locking.LOCK,
        }
    for racer in racers:
        racer.communicate()


def test_a_lock_file_alone_is_of_nobody_who_has_begun(tmp_path):
    (tmp_path / locking.LOCK).touch()
    RunDirectory.create(tmp_path).begin({"experiment": "x"})
    assert locking.state(tmp_path) == "running"


def test_a_run_that_has_ended_meanwhile_is_not_written_to(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="already holds a run"):
        claim(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_who_cannot_have_a_directory_removes_only_what_it_has_made(tmp_path, monkeypatch):
    def refuse(path):
        (tmp_path / "a" / "theirs").mkdir()
        raise RunError("in use")

    monkeypatch.setattr("unrolled.runs.claiming.hold", refuse)
    with pytest.raises(RunError, match="in use"):
        claim(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "theirs"]


def test_numbered_runs_step_over_one_that_another_process_is_about_to_make(tmp_path, running):
    running.rename(tmp_path / "x-1")
    (tmp_path / "x-2").write_text("")
    (tmp_path / "x-3").mkdir()
    assert RunDirectory.create_next(tmp_path, "x").path.name == "x-4"


def test_a_run_that_goes_on_is_neither_made_again_nor_taken(running):
    for attempt in (RunDirectory.create, RunDirectory.take):
        with pytest.raises(RunError, match=r"in use by process \d+ on host .*choose another --out"):
            attempt(running)


def test_a_run_that_was_left_is_taken_and_given_back_as_it_was(tmp_path):
    start(tmp_path, MAKE).communicate()
    run = tmp_path / "run"
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    (run / ".config.json.0123abcd.unfinished").write_text("{")

    def refuse():
        directory = RunDirectory.take(run)
        assert locking.state(run) == "running"
        with directory.all_or_nothing():
            directory.write_json("environment.json", json.loads(before["environment.json"]))
            directory.write_json("notes.json", {})
            raise RunError("settings have changed")

    with pytest.raises(RunError, match="settings"):
        refuse()
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    assert locking.state(run) == "left"


@pytest.mark.parametrize("name", ["file", "nothing", "notes"])
def test_what_is_no_run_is_not_taken(name, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / ".mine.unfinished").touch()
    with pytest.raises(RunError, match=r"is not a run directory|config\.json missing"):
        RunDirectory.take(tmp_path / name)
    assert [file.name for file in (tmp_path / "notes").iterdir()] == [".mine.unfinished"]


def test_a_watch_leaves_the_run_of_another_process_alone(tmp_path, running):
    with pytest.warns(RuntimeWarning, match="run-2"):
        assert make_directory(running, overwrite=False).path == tmp_path / "run-2"
    before = [*running.iterdir()]
    with pytest.raises(RunError, match="in use by process") as error:
        make_directory(running, overwrite=True)
    assert "--out" not in str(error.value)
    assert [*running.iterdir()] == before


def test_a_watch_replaces_its_own_run_that_was_not_closed(tmp_path):
    for _ in range(2):
        directory = make_directory(tmp_path / "run", overwrite=True)
        directory.begin({"experiment": "watch", "framework": "torch", "seed": 0, "settings": {}})
    directory.end({})


def test_a_watch_takes_the_next_name_if_another_process_was_faster(tmp_path, monkeypatch):
    made = RunDirectory.create

    def late(path):
        if path.name == "run":
            path.mkdir()
            (path / "config.json").touch()
        return made(path)

    monkeypatch.setattr(RunDirectory, "create", late)
    with pytest.warns(RuntimeWarning, match="run-2"):
        assert make_directory(tmp_path / "run", overwrite=False).path == tmp_path / "run-2"


def test_a_directory_that_another_process_makes_just_now_is_no_file(tmp_path, monkeypatch):
    looks = []

    def is_dir(path):
        looks.append(path)
        return len(looks) > 1 or path != tmp_path / "run"  # not yet at the first look

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(Path, "is_dir", is_dir)
    check_free(tmp_path / "run")
