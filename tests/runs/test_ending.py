"""Runs without an end; each is made by a process of its own that ends in the way at hand."""

import json
import os
import subprocess
import sys

import pytest

from unrolled.checkpoints import folder
from unrolled.errors import RunError
from unrolled.locking import LOCK
from unrolled.runs import ending
from unrolled.runs.directory import RunDirectory
from unrolled.telemetry.diagnose import as_text, diagnose_run

pytest.importorskip("fcntl")

BEGIN = """
import ctypes, os, signal, sys
from pathlib import Path
from unrolled.runs.directory import RunDirectory
directory = RunDirectory.create(Path("run"))
directory.begin({"experiment": "%s", "framework": "torch", "seed": 0, "settings": {}})
write = directory.lines("telemetry.jsonl")
for step in range(1, 8):
    write({"step": step, "epoch": 1, "loss": 2.0, "gradient_norm": 1.0})
"""

WORDS = "ended without a word after step 7"

KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


def start(tmp_path, end, experiment="x", **options):
    code = BEGIN % experiment + end
    return subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, text=True, **options)


@pytest.fixture
def made(tmp_path):
    """Run a process that begins a run and ends in a given way; the run."""

    def make(end, experiment="x"):
        start(tmp_path, end, experiment, stderr=subprocess.DEVNULL).wait(timeout=60)
        return tmp_path / "run"

    return make


@pytest.mark.parametrize("end", [KILLED, "ctypes.string_at(0)"])
def test_a_process_that_died_is_told_of(made, unrolled, end):
    run = made(end)
    found = diagnose_run(run)
    assert WORDS in as_text(found, "run")
    assert "nothing to report" not in as_text(found, "run")
    (first,) = found.findings[""]
    assert (first.name, first.severity, first.step) == ("no end", "serious", 7)
    assert unrolled("report", run).code == 0
    assert WORDS in (run / "report.html").read_text()
    for command in (
        ("sample", run),
        ("params", run),
        ("convert", run, "--to", "jax", "--out", "b"),
        ("export", run, "--onnx", "m.onnx"),
    ):
        outcome = unrolled(*command)
        assert outcome.code == 2
        assert WORDS in outcome.err


@pytest.mark.parametrize(
    ("experiment", "severity", "words"),
    [
        ("x", "serious", "program ended after step 7, before"),
        ("watch", "warning", "step 7 without closing its watch"),
    ],
)
def test_a_program_that_left_its_run_open_was_not_killed(made, experiment, severity, words):
    found = ending.no_end(made("sys.exit(1)", experiment))
    assert found.severity == severity
    assert words in found.text


@pytest.mark.parametrize("part", ["", "lstm"])
@pytest.mark.parametrize("end", [KILLED, "sys.exit(1)"])
def test_where_there_are_checkpoints_every_command_says_how_to_go_on(made, unrolled, end, part):
    run = made(end)
    words = f"newest checkpoint: `unrolled run --resume {run}`"
    assert not ending.resumable(run)
    assert words not in ending.no_end(run).remedy
    folder.write(run / "checkpoints" / part, 7, {})
    assert ending.resumable(run)
    assert words in ending.no_end(run).remedy
    assert words in as_text(diagnose_run(run), "run", 1000)
    assert unrolled("report", run).code == 0
    assert words in (run / "report.html").read_text()
    for command in (("sample", run), ("params", run), ("export", run, "--onnx", "m.onnx")):
        outcome = unrolled(*command)
        assert outcome.code == 2
        assert words in outcome.err


def test_a_run_that_goes_on_is_no_dead_one(tmp_path):
    end = f"print(flush=True); sys.stdin.read(); {KILLED}"
    with start(tmp_path, end, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found = ending.no_end(tmp_path / "run")
        assert found.severity == "note"
        assert "step 7" in found.text
        with pytest.raises(RunError, match=f"still running: process {process.pid} on host"):
            RunDirectory.open(tmp_path / "run")
    assert WORDS in ending.no_end(tmp_path / "run").text


def test_a_forked_child_does_not_keep_a_run_alive(tmp_path):
    end = f"if os.fork(): {KILLED}\nprint(flush=True); sys.stdin.read()"
    with start(tmp_path, end, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.wait(timeout=60)  # the parent; its child still waits for input
        assert WORDS in ending.no_end(tmp_path / "run").text


def test_a_run_that_died_before_its_first_record_is_diagnosed(made):
    run = made("directory.path.joinpath('telemetry.jsonl').unlink()\n" + KILLED)
    assert "without a word before its first record" in as_text(diagnose_run(run), "run")


def test_the_last_step_is_that_of_the_model_trained_last(tmp_path):
    lines = [{"part": part, "step": step} for part in ("a", "b") for step in (50, 90)][:3]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (tmp_path / "telemetry.jsonl").write_text(text + '{"part": "b", "st')
    (tmp_path / "metrics.jsonl").write_text('{"part": "a", "step": 99}\n')
    os.utime(tmp_path / "metrics.jsonl", (1, 1))
    assert ending.last_step(tmp_path) == 50


def test_a_run_with_an_end_has_no_lock_and_says_how_long_it_took(tmp_path):
    directory = RunDirectory.create(tmp_path / "run")
    directory.begin({"experiment": "x"})
    assert ending.no_end(tmp_path / "run").severity == "note"
    before = directory.read_json("environment.json")
    directory.end({"status": "finished"})
    after = directory.read_json("environment.json")
    assert ending.no_end(tmp_path / "run") is None
    assert not (tmp_path / "run" / LOCK).exists()
    assert after.items() - {("took_s", after["took_s"])} == before.items()
    assert after["took_s"] >= 0


def test_runs_of_earlier_versions_are_not_called_dead(made):
    run = made(KILLED)
    (run / LOCK).unlink()
    assert "has died, or still runs" in ending.no_end(run).text


def test_a_run_that_ends_while_it_is_looked_at_has_an_end(made, monkeypatch):
    run = made(KILLED)

    def end(path):
        (run / "summary.json").write_text("{}")
        return "unknown"

    monkeypatch.setattr(ending, "state", end)
    assert ending.no_end(run) is None


def test_runs_of_the_version_before_this_are_understood(made):
    run = made(KILLED)
    (run / LOCK).write_bytes(b"")
    assert WORDS in ending.no_end(run).text
    (run / LOCK).write_bytes(b"the process ended without finishing the run\n")
    assert "program ended after step 7, before" in ending.no_end(run).text


def test_a_file_system_without_locks_is_no_obstacle(monkeypatch, tmp_path):
    import fcntl

    def refuse(file, how):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    directory = RunDirectory.create(tmp_path / "run")
    directory.begin({"experiment": "x"})
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"config.json", "environment.json"}
    directory.end({})
