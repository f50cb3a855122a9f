"""Processes that are started together, and what becomes of all when one ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import terminal
from unrolled.processes import launch as module
from unrolled.processes.launch import launch, run_all

LAUNCH = """
import sys
from unrolled.processes.launch import run_all
sys.exit(run_all({count}, [sys.executable, "-c", {code!r}], grace_s={grace_s}, terminate_s=0.5))
"""

RANK = 'import os, signal, sys, time\nrank = int(os.environ["RANK"])\n'

TOLD = """
def told(number, _):
    open(f"told-{rank}", "a").write(f"{number}\\n")
    if number == signal.SIGTERM:
        sys.exit(7 + rank)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, told)
open(f"ready-{rank}", "w").close()
while True:
    time.sleep(0.1)
"""


IN_TERMINAL = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
"""Makes standard input the terminal of a session that has none."""


def started(tmp_path, code, count=2, grace_s=60, before="", **more):
    program = before + LAUNCH.format(count=count, code=RANK + code, grace_s=grace_s)
    pipe = subprocess.PIPE
    more = {"stdin": pipe, "stdout": pipe, "stderr": pipe, **more}
    return terminal.start([sys.executable, "-c", program], cwd=tmp_path, text=True, **more)


def wait_for(tmp_path, name, text="", ranks=(0, 1)):
    """Wait until each process has written this text."""
    end = time.monotonic() + 60
    for path in (tmp_path / f"{name}-{rank}" for rank in ranks):
        while not path.exists() or path.read_text() != text:
            assert time.monotonic() < end, path
            time.sleep(0.02)


def test_each_process_gets_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    write = "import json\njson.dump(dict(os.environ, sid=os.getsid(0)), open(f'{rank}', 'w'))"
    assert run_all(3, [sys.executable, "-c", RANK + write]) == 0
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    for rank, environment in enumerate(found):
        assert environment["RANK"] == environment["LOCAL_RANK"] == str(rank)
        assert environment["WORLD_SIZE"] == "3"
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        assert environment["UNROLLED_LAUNCHER"] == str(os.getpid())
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        assert environment["OMP_NUM_THREADS"] == str(max(1, cores // 3))
    assert len({environment["MASTER_PORT"] for environment in found}) == 1
    assert len({os.getsid(0), *(environment["sid"] for environment in found)}) == 4


def test_threads_that_somebody_has_set_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    check = 'sys.exit(os.environ["OMP_NUM_THREADS"] != "7")'
    assert run_all(2, [sys.executable, "-c", RANK + check]) == 0


def test_the_command_is_unrolled(capfd):
    assert launch(2, ["--version"]) == 0
    assert capfd.readouterr().out.count("unrolled, version") == 2


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0, 0), 0), ((0, 3, 4), 3), ((5, 3, 0), 5), ((0, 0, -9), 137)]
)
def test_the_code_is_that_of_process_0_or_of_the_first_that_failed(codes, expected, capfd):
    code = f"code = {codes}[rank]\nos.kill(os.getpid(), -code) if code < 0 else sys.exit(code)"
    assert run_all(3, [sys.executable, "-c", RANK + code]) == expected
    assert capfd.readouterr().err == ""


def test_only_process_0_reads_standard_input(tmp_path):
    process = started(tmp_path, "open(f'{rank}', 'w').write(sys.stdin.read())")
    process.communicate("hello")
    assert process.returncode == 0
    assert (tmp_path / "0").read_text() == "hello"
    assert (tmp_path / "1").read_text() == ""


def test_every_signal_reaches_all_each_time_it_comes(tmp_path):
    process = started(tmp_path, TOLD)
    wait_for(tmp_path, "ready")
    expected = ""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
        expected += f"{number.value}\n"
        wait_for(tmp_path, "told", expected)
    assert process.wait(60) == 7
    assert process.communicate() == ("", "")


def test_a_signal_that_is_ignored_as_by_nohup_ends_nobody(tmp_path):
    ignore = LAUNCH.replace("import sys", "import signal, sys\nsignal.signal(1, signal.SIG_IGN)", 1)
    program = ignore.format(count=1, code=RANK + TOLD, grace_s=60)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    wait_for(tmp_path, "ready", ranks=[0])
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 7
    assert (tmp_path / "told-0").read_text() == f"{signal.SIGTERM.value}\n"


def test_who_goes_on_after_another_s_failure_is_ended(tmp_path):
    code = """
if rank == 1:
    sys.exit(4)
signal.signal(signal.SIGTERM, lambda *_: open(f"told-{rank}", "w").close())
if rank == 2:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
while True:
    time.sleep(0.1)
"""
    process = started(tmp_path, code, count=3, grace_s=2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 137  # process 0 did not end at SIGTERM
    assert (tmp_path / "told-0").exists()
    assert out == ""
    assert err.startswith("error: process 1 of 3 (process ")
    assert err.endswith(") ended with code 4; the others went on for 2 s\n")
    assert err.count("\n") == 1


def test_where_all_who_could_say_it_are_killed_the_launcher_does(capfd):
    code = "os.kill(os.getpid(), signal.SIGKILL)"
    assert run_all(2, [sys.executable, "-c", RANK + code]) == 137
    err = capfd.readouterr().err
    assert err.startswith("error: process 0 of 2 (process ")
    assert err.endswith(") was killed by SIGKILL\n")


def test_a_command_that_is_not_there_leaves_no_process_and_no_handler():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(FileNotFoundError):
        run_all(2, ["/no/such/program"])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_while_processes_start_ends_those_that_have_started(monkeypatch):
    start = module._start

    def start_and_tell(*arguments):
        process = start(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)  # before it is on the list
        return process

    monkeypatch.setattr(module, "_start", start_and_tell)
    assert run_all(3, [sys.executable, "-c", "import time; time.sleep(1000)"]) == 143


def test_ctrl_z_stops_all_until_they_are_continued(tmp_path):
    code = """
open(f"ready-{rank}", "w").close()
while not os.path.exists("over"):
    time.sleep(0.05)
"""
    process = started(tmp_path, code)

    def states():
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in (*children, process.pid)]
        return {stat.rpartition(")")[2].split()[0] for stat in stats}

    if not os.path.exists("/proc/thread-self/children"):
        pytest.skip("this system does not tell the states of processes")
    wait_for(tmp_path, "ready")
    process.send_signal(signal.SIGTSTP)
    while states() != {"T"}:
        time.sleep(0.02)
    process.send_signal(signal.SIGCONT)
    while "T" in states():
        time.sleep(0.02)
    (tmp_path / "over").touch()
    assert process.wait(60) == 0
    process.communicate()


LIVE = """
from rich.console import Console
from rich.progress import Progress
if rank == 0:
    console = Console(force_terminal=None)
    with Progress(console=console) as progress:
        task = progress.add_task("training", total=2)
        progress.advance(task)
        print("typed", input(), flush=True)
        while Console().width != 57:  # the window has been made smaller
            time.sleep(0.02)
    print("done", console.is_terminal)
"""


def test_a_live_display_works_in_process_0_though_it_is_in_a_session_of_its_own(tmp_path):
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    environment = {**os.environ, "TERM": "xterm"}
    for name in ("COLUMNS", "LINES"):  # which count more than the terminal
        environment.pop(name, None)
    main, end = pty.openpty()
    fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("4H", 20, 90, 0, 0))
    streams = {"stdin": end, "stdout": end, "stderr": end, "start_new_session": True}
    process = started(tmp_path, LIVE, before=IN_TERMINAL, env=environment, **streams)
    os.close(end)
    shown = b""

    def read_until(text):
        nonlocal shown
        while text not in shown:
            shown += os.read(main, 4096)

    read_until(b"training")
    os.write(main, b"hello\n")
    read_until(b"typed hello")
    fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("4H", 20, 57, 0, 0))
    read_until(b"done True")
    assert b"\x1b[?25l" in shown  # a live display hides the cursor
    assert process.wait(60) == 0
    os.close(main)


def test_ctrl_c_in_a_terminal_reaches_each_process_once(tmp_path):
    pty = pytest.importorskip("pty")
    main, end = pty.openpty()
    process = started(tmp_path, TOLD, stdin=end, start_new_session=True, before=IN_TERMINAL)
    os.close(end)
    wait_for(tmp_path, "ready")
    os.write(main, b"\x03")
    wait_for(tmp_path, "told", "2\n")
    os.close(main)  # the terminal closes: SIGHUP for the launcher alone
    wait_for(tmp_path, "told", "2\n1\n")
    process.terminate()
    assert process.wait(60) == 7
    process.communicate()
