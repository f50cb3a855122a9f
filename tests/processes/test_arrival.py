"""Processes come together, or end with an error that says why not."""

import re
import socket
import threading
from contextlib import contextmanager, suppress

import pytest
from together import Member, run, start

from unrolled.errors import RunError
from unrolled.processes.meeting import meet
from unrolled.processes.messages import LENGTH, MOST_MESSAGE, decode, encode
from unrolled.processes.place import Place, free_port

MEET = """
meeting = meet()
print(json.dumps([meeting.processes, meeting.engine_port]))
meeting.leave()
"""

NO_MEETING = "meet(limit_s=1)"


def test_all_know_each_other_and_a_port_that_is_free():
    members = start(MEET, size=3)
    first, *others = [member.end() for member in members]
    processes, port = first.value
    assert [process for _, process in processes] == [member.pid for member in members]
    assert {host for host, _ in processes} == {socket.gethostname()}
    with socket.create_server(("", port)):
        pass
    for other in others:
        assert other.value == first.value
    assert {(each.code, each.err) for each in (first, *others)} == {(0, "")}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", socket.gethostname(), "::1"])
def test_process_0_is_found_under_its_name_and_its_addresses(host):
    if host == "::1":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    assert [ended.code for ended in run(MEET, size=2, host=host)] == [0, 0]


def test_a_process_that_differs_ends_all_and_each_names_it():
    about = """{"numpy": "2.4", "framework": {"name": "torch"}, "text": "abc"}"""
    other = about.replace("2.4", "2.3\\x1b").replace("torch", "jax")
    members = start(f"meet({about})", f"meet({about})", f"meet({other})")
    ended = [member.end() for member in members]
    for each in ended:
        assert each.code == 2
        assert each.err == (
            f"error: process 2 of 3 (host {socket.gethostname()}, process {members[2].pid}) "
            r"differs from process 0: numpy is 2.3\x1b and 2.4 there, framework name is jax and "
            "torch there; give all processes the same versions, settings and data\n"
        )


def test_what_is_the_same_in_json_is_the_same():
    ended = run("meet({'a': (1, 2)}).leave()", "meet({'a': [1, 2]}).leave()")
    assert [each.code for each in ended] == [0, 0]


def test_who_has_not_come_is_named_by_all_who_have():
    port = free_port(1)
    members = [Member(NO_MEETING, rank, 4, port) for rank in (0, 2)]
    for each in [member.end() for member in members]:
        assert each.code == 2
        assert each.err == (
            f"error: processes 1, 3 have not come: waited 1 s at 127.0.0.1:{port + 1}; start them "
            "with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE (4), and see whether a firewall "
            f"closes port {port + 1}\n"
        )


@pytest.mark.parametrize(
    ("host", "why"),
    [("127.0.0.1", "connection refused"), ("no.such.host.invalid", "there is no such host")],
)
def test_a_process_0_that_does_not_come_is_named(host, why):
    port = free_port(1)
    told = patiently(lambda limit: Member(f"meet(limit_s={limit})", 1, 2, port, host).end().err)
    assert re.search(f"process 1 waited [0-9.]+ s for {host}:{port + 1}: {why}; start it", told)


def test_a_port_that_is_taken_is_named():
    port = free_port(1)
    with socket.create_server(("127.0.0.1", port + 1)):
        ended = Member(NO_MEETING, 0, 2, port).end()
    assert ended.code == 2
    assert ended.err == (
        f"error: port {port + 1} of this machine (MASTER_PORT + 1), where the processes meet, "
        "is taken; choose another MASTER_PORT, or end the program that uses it\n"
    )


def test_what_must_be_the_same_is_checked_where_it_is_given():
    for about in ("{'a': {1, 2}}", "{'a': 'b' * 2**20}"):
        ended = Member(f"meet({about})", 0, 2, free_port(1)).end()
        assert ended.err.startswith("error: other processes cannot be told this about: ")


# strangers


@contextmanager
def waiting(size=2, limit_s=60):
    """Process 0, in a thread of this process; gives its port and what it ends with."""
    port = free_port(1)
    result = []

    def wait():
        try:
            result.append(meet(Place(0, size, 0, "127.0.0.1", port), {}, limit_s, silence_s=60))
        except RunError as error:
            result.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    yield port, result
    thread.join()


def knock(port, data=b"", end=True):
    """Connect, send bytes and return the answer; until the port is open, try again."""
    while True:
        try:
            caller = socket.create_connection(("127.0.0.1", port), timeout=20)
            break
        except ConnectionRefusedError:
            continue
    if not end:
        return caller
    answer = b""
    with caller:
        try:
            caller.sendall(data)
            caller.shutdown(socket.SHUT_WR)
            while part := caller.recv(4096):
                answer += part
        except OSError:
            pass  # dropped
    return answer


def hello(**changes):
    said = {"rank": 1, "size": 2, "host": "b", "process": 1, "about": {}}
    return encode("hello", {**said, **changes})


def test_strangers_at_the_port_are_dropped_and_hinder_nobody(caplog):
    with waiting() as (port, result):
        mute = [knock(port + 1, end=False) for _ in range(20)]
        for data in (
            b"",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
            hello()[:-3],
            hello(rank=0, about={"a": "b" * MOST_MESSAGE}),
            MOST_MESSAGE.to_bytes(4, "big") + b"[" * MOST_MESSAGE,
            encode("welcome", [[["a", 1], ["b", 2]], 5]),
            hello(rank=True),
            hello(about=None),
        ):
            assert knock(port + 1, data) == b""
        for data in (hello(rank=0), hello(rank=2), hello(rank=-1), hello(size=10**200)):
            assert b"was refused" in knock(port + 1, data)
        assert Member(MEET, 1, 2, port).end().code == 0
        for each in mute:
            each.close()
    (meeting,) = result
    meeting.leave()
    assert not caplog.records


def test_a_second_process_of_a_rank_is_refused_but_comes_in_when_the_first_has_ended():
    with waiting(size=3) as (port, result):
        with knock(port + 1, end=False) as first:
            first.sendall(hello(size=3, process=11))
            refused = Member(MEET, 1, 3, port).end()
            assert refused.code == 2
            assert "process 11) is there already; each process needs a RANK of" in refused.err
        members = [Member(MEET, rank, 3, port) for rank in (1, 2)]
        assert [member.end().code for member in members] == [0, 0]
    (meeting,) = result
    meeting.leave()


def test_who_waits_in_vain_reads_of_a_process_of_another_size():
    with waiting(limit_s=2) as (port, result):
        told = decode(knock(port + 1, hello(size=3))[LENGTH:])
    first, second = str(*result).splitlines()
    assert told == ("error", first)
    assert "was refused: WORLD_SIZE is 2 in process 0; it must be the same in all" in first
    assert "process 1 of 2 has not come: waited 2 s at" in second


def patiently(attempt):
    """Return the answer within a limit: 0.5 s, or more where a busy machine answers later."""
    limit_s = 0.5
    while "nobody answers" in (told := attempt(limit_s)):
        limit_s *= 2
    return told


def ask(answer, limit_s):
    """Join a process 0 that gives everybody this answer; return the error."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with suppress(OSError):
                while True:
                    with server.accept()[0] as caller:
                        caller.recv(2**16)
                        caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        place = Place(1, 2, 0, "127.0.0.1", server.getsockname()[1] - 1)
        with pytest.raises(RunError) as error:
            meet(place, {}, limit_s)
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    return str(error.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        encode("welcome", [[], 5]),
        encode("welcome", [[1, 2], 5]),
        encode("welcome", [[["a", "b"], [1, 2]], 5]),
        encode("tree", 1),
        (2**32 - 1).to_bytes(4, "big"),
        b"\0\0\0\1{",
    ],
)
def test_a_stranger_in_the_place_of_process_0_is_told_from_it(answer):
    told = patiently(lambda limit_s: ask(answer, limit_s))
    assert "what answers there is no process of ours; another program may have" in told


def test_an_error_of_process_0_cannot_write_to_the_terminal():
    assert ask(encode("error", "one\ntwo\x1b[2J"), limit_s=20) == "one\ntwo\\x1b[2J"
