"""Train on two hosts, network namespaces with a virtual cable, and cut the cable."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.outcome import Options, Outcome
from torture.runs import PLANS, Reference
from torture.workers import END_WITHIN_S, compare

HOSTS = ("unrolled-a", "unrolled-b")
CABLES = ("cable-a", "cable-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 29500
NAMES = Path("/etc/netns")

PLAN = "lstm-random"


def run(options: Options) -> Outcome:
    """Train to the end, then once more with the cable cut, and resume on one host."""
    outcome = Outcome("two hosts")
    frameworks = [each for each in ("torch", "jax") if each in options.frameworks]
    if not can_make_hosts() or not frameworks:
        outcome.skipped.append("two hosts: this takes root, `ip netns`, and PyTorch or JAX")
        return outcome
    worst, longest = 0.0, 0.0
    with two_hosts():
        for framework in frameworks:
            reference = Reference(PLANS[PLAN], framework, options.folder / framework)
            whole = reference.new("whole")
            codes = [each.wait(300) for each in begin(whole.first, whole.log)]
            outcome.check(codes == [0, 0], f"{framework}: {codes}, {whole.log.read_text()[-600:]}")
            if codes != [0, 0]:
                continue
            gap, wrong = compare(reference.path, whole.path)
            outcome.check(not wrong, f"{framework}: {wrong}")
            worst = max(worst, gap)

            cut = reference.new("cut")
            processes = begin(cut.first, cut.log)
            while not any(cut.path.glob("checkpoints/*/complete.json")):
                time.sleep(0.005)
            for process in processes:  # so that there is something left to lose
                process.send_signal(subprocess.signal.SIGSTOP)
            is_over = (cut.path / "summary.json").exists()
            ip("netns", "exec", HOSTS[1], "ip", "link", "set", CABLES[1], "down")
            for process in processes:
                process.send_signal(subprocess.signal.SIGCONT)
            began = time.monotonic()
            codes = [each.wait(300) for each in processes]
            longest = max(longest, took := time.monotonic() - began)
            text = cut.log.read_text()
            outcome.check(not is_over, f"{framework}: the run was over before the cable was cut")
            outcome.check(took < END_WITHIN_S, f"{framework}: it took {took:.0f} s to end")
            outcome.check(
                codes == [3, 3] and "Traceback" not in text, f"{framework}: {codes}, {text}"
            )
            outcome.check(text.count("error: ") == 2, f"{framework}: one line a host: {text}")
            ip("netns", "exec", HOSTS[1], "ip", "link", "set", CABLES[1], "up")
            ended = cut.resume()
            outcome.check(ended.code == 0, f"{framework}, resumed: {ended.text[-600:]}")
            gap, wrong = compare(reference.path, cut.path)
            outcome.check(not wrong, f"{framework}, resumed: {wrong}")
            worst = max(worst, gap)
    outcome.figures = (
        f"{', '.join(frameworks)}: largest relative difference {worst:.1g}; cable cut: ended "
        f"within {longest:.1f} s, resumed on one host"
    )
    return outcome


def begin(arguments: list[str], log: Path) -> list["subprocess.Popen[bytes]"]:
    """Start a command on both hosts, which share their disk."""
    processes = []
    with log.open("wb") as output:
        for rank, host in enumerate(HOSTS):
            place = {
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": "0",
                "MASTER_ADDR": ADDRESSES[0],
                "MASTER_PORT": str(PORT),
                "GLOO_SOCKET_IFNAME": CABLES[rank],
            }
            command = ["ip", "netns", "exec", host, sys.executable, "-m", "unrolled", *arguments]
            environment = {**os.environ, **place}
            processes.append(
                subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
            )
    return processes


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def can_make_hosts() -> bool:
    if shutil.which("ip") is None or not hasattr(os, "getuid") or os.getuid() != 0:
        return False
    made = subprocess.run(["ip", "netns", "add", HOSTS[0]], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", HOSTS[0]], capture_output=True, check=False)
    return made.returncode == 0


@contextmanager
def two_hosts() -> Iterator[None]:
    """Two namespaces with a cable between them."""
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", CABLES[0], "type", "veth", "peer", "name", CABLES[1])
        for host, cable, address in zip(HOSTS, CABLES, ADDRESSES, strict=True):
            ip("link", "set", cable, "netns", host)
            inside = "netns", "exec", host, "ip"
            ip(*inside, "address", "add", f"{address}/24", "dev", cable)
            ip(*inside, "link", "set", cable, "up")
            ip(*inside, "link", "set", "lo", "up")
            folder = NAMES / host
            folder.mkdir(parents=True)  # what `ip netns exec` puts over /etc
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {platform.node()}\n")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)
            shutil.rmtree(NAMES / host, ignore_errors=True)
