"""A process that ends, stops or fails ends all, with one line that says why."""

import signal
import socket
import time

import pytest
from together import LOST, run, start

WAITS = """
meeting = meet(silence_s=SILENCE)
meeting.how_to_go_on = "unrolled run --resume runs/x"
meeting.before_exit.append(lambda: 1 / 0)
meeting.before_exit.append(lambda: print("saved", flush=True))
print("met", flush=True)
sys.stdin.read()
meeting.leave()
"""


def met(size, silence_s=60, code=WAITS):
    """Processes that have met and wait."""
    members = start(code.replace("SILENCE", str(silence_s)), size=size)
    for member in members:
        member.wait_for("met")
    return members


def name(members, rank):
    who = f"host {socket.gethostname()}, process {members[rank].pid}"
    return f"process {rank} of {len(members)} ({who})"


GO_ON = "; go on with: unrolled run --resume runs/x\n"


def test_process_0_waits_for_the_others_goodbyes():
    members = met(3)
    members[0].stdin.close()
    members[0].stdin = None
    with pytest.raises(Exception, match="timed out"):
        members[0].wait(1)
    assert [members[rank].end().code for rank in (1, 2, 0)] == [0] * 3


def test_who_does_not_leave_is_ended():
    late = "meet()\nprint('met', flush=True)\nsys.stdin.read()"
    members = start("meet(leave_s=0.5).leave()", late)
    assert members[0].end().code == 0
    members[1].stdout.read()
    assert members[1].wait(60) == LOST
    members[1].end()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_process_that_is_killed_ends_all_others_and_one_line_names_it(rank):
    members = met(3)
    members[rank].kill()
    left = [each for each in members if each is not members[rank]]
    for each in left:
        assert each.wait(60) == LOST
    assert members[rank].end().code == -signal.SIGKILL
    ended = [each.end() for each in left]
    why = "has ended without a word: it was killed, or it crashed"
    assert ended[0].err == f"error: {name(members, rank)} {why}{GO_ON}"
    assert ended[1].err == ""
    assert [each.out for each in ended] == ["saved\n"] * 2


def test_a_process_that_is_stopped_ends_all_and_itself_when_it_goes_on():
    pairs = [met(2, silence_s=4), met(2, silence_s=4)]
    for stopped, members in enumerate(pairs):
        members[stopped].send_signal(signal.SIGSTOP)
    for stopped, members in enumerate(pairs):
        assert members[1 - stopped].wait(60) == LOST
        members[stopped].send_signal(signal.SIGCONT)
        assert members[stopped].wait(60) == LOST
        why = "has been silent for 4 s: it is stopped, or its machine or the network is down"
        assert members[1 - stopped].end().err == f"error: {name(members, stopped)} {why}{GO_ON}"
        members[stopped].end()


def test_processes_that_are_all_stopped_for_long_go_on():
    code = WAITS.replace("sys.stdin.read()", "sys.stdin.readline()\nmeeting.sum([1])")
    members = met(2, 4, code)
    for member in members:
        member.send_signal(signal.SIGSTOP)
    time.sleep(5)  # longer than their silence
    for member in members:
        member.send_signal(signal.SIGCONT)
        member.stdin.write("\n")
        member.stdin.flush()
    assert [member.end().code for member in members] == [0, 0]


def test_a_long_native_call_is_no_silence_unless_it_holds_pythons_lock():
    computes = """
import ctypes
meeting = meet(silence_s=4)
if place.rank:
    ctypes.LIBRARY(None).sleep(9)
meeting.everyone(1)
meeting.leave()
"""
    releases = start(computes.replace("LIBRARY", "CDLL"), size=2)
    holds = start(computes.replace("LIBRARY", "PyDLL"), size=2)
    assert [member.end().code for member in releases] == [0, 0]
    assert [member.end().code for member in holds] == [LOST, LOST]


def test_a_child_that_keeps_the_connection_open_hides_no_end():
    forks = """
meeting = meet(silence_s=4)
if place.rank and not os.fork():
    os.close(1), os.close(2)
    time.sleep(60)
    os._exit(0)
if place.rank:
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""
    members = start(forks, size=2)
    assert members[0].wait(60) == LOST
    assert "has been silent for 4 s" in members[0].end().err
    members[1].end()


def test_callbacks_that_hang_end_with_their_time():
    hangs = """
module.CALLBACKS_S = 0.5
meeting = meet()
meeting.before_exit.append(lambda: time.sleep(1000))
print("met", flush=True)
if place.rank:
    sys.stdin.readline()
    os._exit(0)
time.sleep(1000)
"""
    members = met(2, code=hangs)
    members[1].communicate("\n")
    ended = members[0].end()
    assert ended.code == LOST
    assert ended.err == (
        f"error: {name(members, 1)} has ended without a word: it was killed, or it crashed\n"
    )


def test_an_error_ends_the_others_with_its_message():
    fails = """
meeting = meet()
if place.rank == 1:
    meeting.leave("the loss is nan\\nin step 5 \\x1b")
    sys.exit(2)
sys.stdin.read()
"""
    members = start(fails, size=3)
    assert members[0].wait(60) == LOST
    first, second, third = [member.end() for member in members]
    assert (
        first.err == rf"error: {name(members, 1)} has ended: the loss is nan; in step 5 \x1b" + "\n"
    )
    assert (second.code, second.err) == (2, "")
    assert (third.code, third.err) == (LOST, "")


def test_where_all_fail_alike_process_0_says_it():
    fails = "meeting = meet()\nmeeting.leave('nan')\nprint('own error')\nsys.exit(2)"
    ended = run(fails, size=3)
    assert [each.code for each in ended] == [2, LOST, LOST]
    assert [(each.out, each.err) for each in ended] == [("own error\n", ""), ("", ""), ("", "")]


def test_an_error_that_is_the_echo_of_another_end_is_not_told():
    echo = """
meeting = meet()
if place.rank:
    os.kill(os.getpid(), signal.SIGKILL)
meeting.leave("connection closed by peer")
print("never")
"""
    members = start(echo, size=2)
    first = members[0].end()
    members[1].end()
    assert (first.code, first.out) == (LOST, "")
    assert f"{name(members, 1)} has ended without a word" in first.err


def test_who_waits_for_others_gets_the_loss_as_an_error():
    code = """
heard = []
module.Meeting._exit = lambda meeting, message: heard.append(message)
meeting = meet()
if place.rank:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    meeting.everyone(1)
except UnrolledError as error:
    meeting.leave()
    print(json.dumps([heard, str(error)]))
"""
    heard, error = run(code, size=2)[0].value
    assert heard == [error]
    assert "process 1 of 2" in error


def test_the_end_of_who_started_them_ends_them():
    program = """
from unrolled.processes.meeting import meet
from unrolled.processes.place import place_from_environment
import signal, sys, time
def told(*_):
    print("told", flush=True)
    meeting.leave()
    sys.exit(143)
signal.signal(signal.SIGTERM, told)
meeting = meet(place_from_environment(), {}, beat_s=0.1)
print("met", flush=True)
while True:
    time.sleep(1)
"""
    launcher = """
import subprocess
from unrolled.processes.place import LAUNCHER
os.environ[LAUNCHER] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", os.environ["PROGRAM"]], start_new_session=True)
sys.stdin.read()
"""
    members = start(launcher, size=2, PROGRAM=program)
    for member in members:
        member.wait_for("met")
    for member in members:
        member.kill()
    assert [member.end().out for member in members] == ["told\n"] * 2
