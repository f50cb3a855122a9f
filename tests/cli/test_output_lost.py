"""Commands whose output cannot be written: nobody reads it, a disk is full, it is closed."""

import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from installed import FRAMEWORK
from terminal import start, wait_for_epochs

UNROLLED = f"{shlex.quote(sys.executable)} -m unrolled"
RUN = f"{UNROLLED} run linear-regression --framework {FRAMEWORK} --out out"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
KEPT = {"config.json", "model.safetensors", "summary.json"}


def shell(command, tmp_path, unbuffered=""):
    return subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("ending", ["| head -n 1", ">&-", ">&- 2>&-"])
def test_a_run_is_kept_though_nobody_reads_what_it_says(ending, tmp_path):
    done = shell(f"set -o pipefail; {RUN} {ending}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {file.name for file in (tmp_path / "out").iterdir()} >= KEPT


@pytest.mark.parametrize("command", ["list", "--help", "doctor"])
def test_a_reader_that_has_had_enough_is_no_failure(command, tmp_path):
    done = shell(f"set -o pipefail; {UNROLLED} {command} | head -n 1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@FULL
def test_a_run_whose_output_finds_no_room_is_kept_and_tells(tmp_path):
    done = shell(f"{RUN} > /dev/full", tmp_path)
    assert done.returncode == 2
    lost = "error: standard output cannot be written: No space left on device"
    assert done.stderr == f"{lost}; the run is kept in out\n"
    assert {file.name for file in (tmp_path / "out").iterdir()} >= KEPT


@FULL
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["list", "--help"])
def test_a_command_whose_output_finds_no_room_tells(command, unbuffered, tmp_path):
    done = shell(f"{UNROLLED} {command} > /dev/full", tmp_path, unbuffered)
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


@FULL
@pytest.mark.parametrize("ending", ["2>&-", "2> /dev/full"])
def test_a_mistake_has_its_exit_code_though_it_cannot_be_told(ending, tmp_path):
    assert shell(f"{UNROLLED} trian {ending}", tmp_path).returncode == 2


def test_a_run_is_kept_when_its_terminal_closes(tmp_path):
    terminal, inside = pty.openpty()
    command = [*shlex.split(RUN), "--set", "max_epochs=1000000"]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), inside)
    process = start(command, cwd=tmp_path, start_new_session=True, **streams)
    os.close(inside)
    wait_for_epochs(process, tmp_path / "out/metrics.jsonl", 1)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    assert {file.name for file in (tmp_path / "out").iterdir()} >= KEPT
