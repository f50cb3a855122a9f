"""Train in miniature steps with everything logged: memory and open files stay what they are."""

import os
import statistics
import time
from pathlib import Path

from torture.outcome import Options, Outcome
from torture.processes import Command, wait_for
from torture.runs import Plan

MOST_GROWTH = 0.01
"""Of the resident memory after the first tenth of the time."""

PLAN = Plan("language-model", "every=50steps,keep=3", "model=gru max_epochs=10000000")


def run(options: Options) -> Outcome:
    """Watch a training for so many minutes."""
    outcome = Outcome("memory and open files")
    seconds, out = 60 * options.minutes, options.folder / "endless"
    arguments = [*PLAN.arguments(options.frameworks[0], out), "--log", "csv"]
    command = Command(arguments, out.with_suffix(".log"))
    wait_for(out / "checkpoints", command)
    memory: list[int] = []
    files: list[int] = []
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds and command.process.is_alive():
        memory.append(resident(command.process.pid))
        if passed > seconds / 10:
            files.append(open_files(command.process.pid))
        time.sleep(min(1.0, seconds / 200))
    alive = command.process.is_alive()
    command.kill()
    text = command.wait().text
    outcome.check(alive, f"the training has ended: {text[-500:]}")
    tenth = len(memory) // 10
    before, after = (
        statistics.median(memory[a:b]) for a, b in ((tenth, 2 * tenth), (-tenth, None))
    )
    growth = after / before - 1
    steps = sum(1 for _ in (out / "telemetry.jsonl").open("rb"))
    outcome.check(growth < MOST_GROWTH, f"memory grows by {growth:.2%}")
    # one may be open for an instant: a checkpoint's
    usual = statistics.mode(files)
    last = files[-len(files) // 4 :]
    outcome.check(statistics.mode(last) == usual, f"{usual} open files become {set(last)}")
    outcome.figures = (
        f"{options.minutes:g} minutes, {steps:,} steps, {before / 2**20:.1f} MiB after a tenth, "
        f"{growth:+.2%} at the end; {usual} open files"
    )
    return outcome


def resident(process: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))
