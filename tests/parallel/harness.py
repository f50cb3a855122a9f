"""Run `program.py` by several processes or devices, and compare what came out."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parallel.program import TAIL, Case
from unrolled.processes.place import free_port

PROGRAM = Path(__file__).with_name("program.py")
LIMIT_S = 300


def run(
    framework: str,
    folder: Path,
    cases: Sequence[Case],
    processes: int = 1,
    devices: int = 1,
    **environment: str,
) -> str:
    """Train the cases; files ``<name>.npz`` in the folder hold what came out, see `differences`.

    Returns:
        What the processes have printed.
    """
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(PROGRAM), framework, str(devices), str(folder)]
    command.append(json.dumps([asdict(case) for case in cases]))
    return launch(command, processes, **environment)


def launch(command: list[str], processes: int = 1, **environment: str) -> str:
    """Run a command by so many processes, which know of each other, to its end."""
    port = str(free_port(following=1, host="127.0.0.1"))
    started = []
    for rank in map(str, range(processes)):
        variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)}
        variables |= {"OMP_NUM_THREADS": "1"}
        if processes > 1:
            variables |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(processes)}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started.append(
            subprocess.Popen(
                command,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        told = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * processes, "\n".join(told)
    return "".join(told)


def check_same(expected: Path, found: Path, limit: float = 1e-5) -> None:
    """Make sure that two runs of a case gave the same numbers, relative to the largest of each."""
    with np.load(expected) as a, np.load(found) as b:
        assert set(a) == set(b)
        differ = {name: _difference(a[name], b[name]) for name in a}
    assert len(differ) > TAIL
    assert {name: value for name, value in differ.items() if value > limit} == {}


def _difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    assert a.shape == b.shape
    assert (np.isnan(a) == np.isnan(b)).all()
    largest = np.nanmax(np.abs(a), initial=1e-30)
    return float(np.nanmax(np.abs(a - b), initial=0) / largest)
