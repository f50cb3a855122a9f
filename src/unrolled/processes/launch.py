"""Start the processes of a training on this machine, pass signals on, and see that all end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

from unrolled.processes.place import LAUNCHER, free_port

HOST = "127.0.0.1"

FORWARDED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]

POLL_S = 0.1

Process = subprocess.Popen[bytes]


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run the command ``unrolled`` with arguments in several processes that train together.

    Return the exit code of process 0; if that is 0, the first one of another process that is not.
    """
    # -P: a file here that is named like a module is not loaded in its place
    return run_all(count, [sys.executable, "-P", "-m", "unrolled", *arguments])


def run_all(
    count: int, command: Sequence[str], grace_s: float = 30.0, terminate_s: float = 10.0
) -> int:
    """Run a command in several processes, each with its place in the environment.

    Each has a session of its own, so that Ctrl-C reaches only this process, which passes it on, and
    SIGTERM and SIGHUP. Ctrl-Z stops all. Process 0 still writes to the terminal, asks for its size
    and reads from it; only ``SIGWINCH`` does not reach it.

    When one has failed, the others get SIGTERM after ``grace_s`` seconds, and are killed after
    ``terminate_s`` more.
    """
    processes: list[Process] = []
    told: list[int] = []
    reached: set[int] = set()

    def forward(number: int, _: FrameType | None) -> None:
        told.append(number)
        for process in processes:
            reached.add(process.pid)
            process.send_signal(number)

    def suspend(*_: object) -> None:
        for process in processes:
            process.send_signal(signal.SIGSTOP)  # SIGTSTP stops nobody in a session of its own
        os.kill(os.getpid(), signal.SIGSTOP)
        for process in processes:
            process.send_signal(signal.SIGCONT)

    before = {
        number: signal.signal(number, forward)
        for number in FORWARDED
        # nohup has programs ignore that their terminal closes
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
    }
    if hasattr(signal, "SIGTSTP"):
        before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, suspend)
    try:
        environment = _environment(count)
        for rank in range(count):
            if told:
                break
            processes.append(_start(command, rank, environment))
        for process in processes:  # a signal came before the process was on the list
            if told and process.pid not in reached:
                process.send_signal(told[-1])
        _wait(processes, told, grace_s, terminate_s)
    finally:
        for process in processes:
            process.kill()  # nothing, if it has ended
        for number, handler in before.items():
            signal.signal(number, handler)
    codes = [process.returncode for process in processes] or [-told[0]]
    code = next((code for code in codes if code), 0)
    return 128 - code if code < 0 else code  # as shells have it


def _environment(count: int) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "OMP_NUM_THREADS": str(max(1, (cores or 1) // count)),
        **os.environ,
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(free_port(following=1, host=HOST)),
        LAUNCHER: str(os.getpid()),
    }


def _start(command: Sequence[str], rank: int, environment: dict[str, str]) -> Process:
    return subprocess.Popen(
        command,
        env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        stdin=subprocess.DEVNULL if rank else None,
        start_new_session=True,
    )


def _wait(
    processes: Sequence[Process], told: Sequence[int], grace_s: float, terminate_s: float
) -> None:
    """Wait until all have ended; make those end that go on though another one has failed."""
    steps = [(grace_s, signal.SIGTERM), (grace_s + terminate_s, signal.SIGKILL)]
    failed: tuple[int, float] | None = None
    while running := [process for process in processes if process.poll() is None]:
        if failed is None:
            ranks = [rank for rank, process in enumerate(processes) if process.returncode]
            failed = (ranks[0], time.monotonic()) if ranks else None
        elif steps and time.monotonic() - failed[1] > steps[0][0]:
            if len(steps) == 2:
                _say(f"{_how(processes, failed[0])}; the others went on for {grace_s:g} s")
            for process in running:
                process.send_signal(steps[0][1])
            del steps[0]
        time.sleep(POLL_S)
    # one of the first two says why all have ended, see `unrolled.processes.meeting`
    if len(steps) == 2 and not told and all(each.returncode < 0 for each in processes[:2]):
        _say(_how(processes, 0))


def _how(processes: Sequence[Process], rank: int) -> str:
    code = processes[rank].returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"process {rank} of {len(processes)} (process {processes[rank].pid}) {how}"


def _say(text: str) -> None:
    with suppress(OSError):
        print(f"error: {text}", file=sys.stderr, flush=True)
