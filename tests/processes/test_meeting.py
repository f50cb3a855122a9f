"""Processes that have met exchange numbers and small trees."""

import functools
import operator
import os

import pytest
from together import Member, run

from unrolled.processes.place import free_port


def test_sums_have_the_same_bits_everywhere():
    rows = [[0.1, 1e308, 1e16, -0.0], [0.2, 1e308, 1.0, -0.0], [0.3, -1e308, 1.0, -0.0]]
    code = (
        "meeting = meet()\nprint(json.dumps([x.hex() for x in meeting.sum(%r)]))\nmeeting.leave()"
    )
    expected = [functools.reduce(operator.add, column).hex() for column in zip(*rows, strict=True)]
    assert [each.value for each in run(*(code % row for row in rows))] == [expected] * 3


def test_what_is_not_finite_is_added_up_too():
    code = """
meeting = meet()
print(json.dumps([str(x) for x in meeting.sum([float(x) for x in %r])]))
meeting.leave()
"""
    ended = run(code % ["nan", "inf", "inf"], code % ["1", "inf", "-inf"])
    assert [each.value for each in ended] == [["nan", "inf", "nan"]] * 2


def test_trees_come_in_the_order_of_ranks_each_time():
    code = """
meeting = meet()
told = [meeting.everyone({"rank": place.rank, "turn": [turn, "ä"]}) for turn in range(50)]
print(json.dumps(told))
meeting.leave()
"""
    expected = [[{"rank": r, "turn": [turn, "ä"]} for r in range(3)] for turn in range(50)]
    assert [each.value for each in run(code, size=3)] == [expected] * 3


def test_large_trees_arrive_and_larger_ones_are_refused_where_they_are_given():
    code = """
meeting = meet()
try:
    meeting.everyone("a" * 2**20)
except UnrolledError as error:
    print(error)
told = meeting.everyone("a" * (2**20 - 100))
print(json.dumps([len(each) for each in told]))
meeting.leave()
"""
    for each in run(code, size=3):
        assert "at most 1,048,576 are expected" in each.out
        assert each.value == [2**20 - 100] * 3


def test_who_waits_for_a_process_that_has_left_is_told():
    waits = "meeting = meet()\nmeeting.everyone(1)"
    first, second = run(waits, "meet().leave()")
    assert (first.code, second.code) == (2, 0)
    assert first.err.startswith("error: process 1 of 2 (host ")
    assert first.err.endswith(") has left\n")


def test_a_meeting_that_is_interrupted_is_over():
    code = """
def told(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, told)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    meet()
except KeyboardInterrupt:
    import threading
    print(threading.active_count())
"""
    assert Member(code, 0, 2, free_port(1)).end().value == 1


def test_nobody_s_descriptors_are_left():
    code = """
before = len(os.listdir("/proc/self/fd"))
meeting = meet()
meeting.leave()
meeting.leave()
print(len(os.listdir("/proc/self/fd")) - before)
"""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list open files")
    assert [each.value for each in run(code, size=2)] == [0, 0]
