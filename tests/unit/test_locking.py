"""Locks on directories, held by processes of their own."""

import json
import os
import subprocess
import sys

import pytest

from unrolled import locking
from unrolled.errors import RunError

fcntl = pytest.importorskip("fcntl")

HOLD = """
import os, signal, sys
from pathlib import Path
from unrolled import locking
locking.hold(Path("."))
"""

WAIT = "print(flush=True); sys.stdin.read()\n"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"

RACE = """
import os, sys, time
from pathlib import Path
from unrolled import locking
from unrolled.errors import RunError

print(flush=True)
sys.stdin.readline()
held = 0
for _ in range(60):
    try:
        locking.hold(Path("."))
    except RunError as error:
        assert "in use by process" in str(error), error
        continue
    alone = os.open("alone", os.O_CREAT | os.O_EXCL)  # fails if another one holds the lock
    assert locking.owner(Path(".")).process == os.getpid()
    held += 1
    os.unlink("alone")
    os.close(alone)
    (locking.release, locking.give_back, locking.leave)[held % 3](Path("."))
print(held)
"""

LOOK = """
from pathlib import Path
from unrolled import locking
while not Path("done").exists():
    locking.state(Path(".")), locking.owner(Path("."))
"""


def start(tmp_path, code):
    command = [sys.executable, "-c", code]
    return subprocess.Popen(
        command, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_lock_names_its_owner_and_ends_with_it(tmp_path):
    with start(tmp_path, HOLD + WAIT) as process:
        process.stdout.readline()
        assert locking.state(tmp_path) == "running"
        owner = locking.owner(tmp_path)
        assert (owner.process, owner.host) == (process.pid, os.uname().nodename)
        assert sys.executable in owner.command
        with pytest.raises(
            RunError, match=rf"in use by process {process.pid} on host .*wait until"
        ):
            locking.hold(tmp_path)
        process.kill()
    assert locking.state(tmp_path) == "killed"
    assert locking.owner(tmp_path) == owner
    locking.hold(tmp_path)
    assert locking.owner(tmp_path).process == os.getpid()
    locking.release(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_process_that_ends_by_itself_says_so(tmp_path):
    start(tmp_path, HOLD).communicate()
    assert locking.state(tmp_path) == "left"
    assert locking.owner(tmp_path).process != os.getpid()


def test_of_processes_that_race_one_holds_the_lock_and_who_looks_is_in_nobody_s_way(tmp_path):
    lookers = [start(tmp_path, LOOK) for _ in range(2)]
    racers = [start(tmp_path, RACE) for _ in range(3)]
    for racer in racers:
        racer.stdout.readline()
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    counts = [int(racer.communicate()[0]) for racer in racers]
    (tmp_path / "done").touch()
    for each in (*lookers, *racers):
        each.communicate()
        assert each.returncode == 0
    assert all(counts)


def test_an_owner_that_removes_the_file_of_a_lock_that_another_waits_for(tmp_path, monkeypatch):
    opened = []

    def open_and_lose(path, flags):
        opened.append(os.open(path, flags))
        if len(opened) == 1:  # between opening and locking
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(locking, "open_plain", open_and_lose)
    locking.hold(tmp_path)
    monkeypatch.undo()
    assert len(opened) == 2
    assert locking.state(tmp_path) == "running"
    locking.release(tmp_path)


def test_a_lock_is_taken_though_somebody_looks_at_it(tmp_path, monkeypatch):
    path = tmp_path / locking.LOCK
    path.write_bytes(locking.LEFT)
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(reader, fcntl.LOCK_UN))
        locking.hold(tmp_path)
    locking.release(tmp_path)


@pytest.mark.parametrize("before", [b"", locking.LEFT, b'{"process": 1}\n', b"no JSON\n" * 9])
def test_a_lock_that_is_given_back_says_what_it_said_before(before, tmp_path):
    path = tmp_path / locking.LOCK
    path.write_bytes(before)
    assert locking.state(tmp_path) == ("left" if before == locking.LEFT else "killed")
    assert locking.owner(tmp_path) is None
    locking.hold(tmp_path)
    assert json.loads(path.read_bytes())["process"] == os.getpid()
    locking.give_back(tmp_path)
    assert (path.read_bytes() if path.exists() else b"") == before


def test_a_forked_child_neither_keeps_a_lock_nor_gives_it_up(tmp_path):
    child = f"""
if os.fork():
    {WAIT}    {KILL}
locking.release(Path("."))
locking.leave(Path("."))
print(flush=True)
sys.stdin.read()
"""
    with start(tmp_path, HOLD + child) as process:
        process.stdout.readline(), process.stdout.readline()
        assert locking.state(tmp_path) == "running"
        process.kill()
        process.wait()  # its child still waits for input
        assert locking.state(tmp_path) == "killed"


def test_a_link_is_no_lock(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / locking.LOCK).symlink_to("mine.txt")
    assert locking.state(tmp_path) == "unknown"
    assert locking.owner(tmp_path) is None
    with pytest.raises(RunError, match=r"running\.lock' cannot be locked: it is a link.*remove it"):
        locking.hold(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_owner_s_command_cannot_write_to_the_terminal(tmp_path):
    said = {"process": 1, "host": "h\x1b[2J", "command": "a\n" + "b" * 9999, "began": ""}
    (tmp_path / locking.LOCK).write_text(json.dumps(said))
    owner = locking.owner(tmp_path)
    assert str(owner) == r"process 1 on host h\x1b[2J"
    assert owner.command.startswith(r"a\nb")
    assert len(owner.command) == locking.COMMAND


def test_a_release_leaves_the_lock_of_who_has_replaced_the_directory(tmp_path):
    locking.hold(tmp_path)
    (tmp_path / locking.LOCK).unlink()
    with start(tmp_path, HOLD + WAIT) as process:
        process.stdout.readline()
        locking.release(tmp_path)
        assert locking.state(tmp_path) == "running"
