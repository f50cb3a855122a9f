"""Two machines, as two network namespaces, whose cable is cut: both ends end."""

import os
import shutil
import subprocess

import pytest
from together import LOST, Member

CODE = """
meeting = meet(silence_s=4)
meeting.sum([1.0])
print("met", flush=True)
sys.stdin.read()
"""

NAMES = [f"unrolled-{os.getpid()}-{each}" for each in "ab"]
ADDRESSES = "10.97.31.1", "10.97.31.2"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def machines():
    """The commands that run a program on either of two machines with a cable between them."""
    if shutil.which("ip") is None:
        pytest.skip("no command `ip`")
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", NAMES[0], "type", "veth",
           "peer", "name", "cable", "netns", NAMES[1])  # fmt: skip
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield [["ip", "netns", "exec", name] for name in NAMES]
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.parametrize("cut", [0, 1])
def test_both_ends_of_a_cable_that_is_cut_end(machines, cut):
    members = [
        Member(CODE, rank, 2, 29_500, ADDRESSES[0], machine)
        for rank, machine in enumerate(machines)
    ]
    for member in members:
        member.wait_for("met")
    ip("-n", NAMES[cut], "link", "set", "cable", "down")
    assert [member.wait(60) for member in members] == [LOST, LOST]
    for rank, member in enumerate(members):
        err = member.end().err
        assert err.startswith(f"error: process {1 - rank} of 2 (host ")
        assert "has been silent for 4 s: it is stopped, or its machine or the network is" in err


def test_where_no_cable_is_each_says_who_has_not_come(machines):
    ip("-n", NAMES[1], "link", "set", "cable", "down")
    members = [
        Member("meet(limit_s=1)", rank, 2, 29_500, ADDRESSES[0], machine)
        for rank, machine in enumerate(machines)
    ]
    first, second = [member.end() for member in members]
    assert (first.code, second.code) == (2, 2)
    assert "process 1 of 2 has not come: waited 1 s at 10.97.31.1:29501" in first.err
    assert "process 0 of 2 has not come: process 1 waited 1 s for 10.97.31.1:29501" in second.err
