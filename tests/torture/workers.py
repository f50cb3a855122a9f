"""Kill one of several processes that train together; resume with 1, 2 or 4: the same numbers."""

import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from torture.outcome import Options, Outcome
from torture.processes import Call, Command, Ended, wait_for
from torture.runs import PLANS, Attempt, Reference, drawn
from unrolled.processes.place import free_port

NAMES = ("rnn", "gru-layer-random", "lstm-random", "lstm-layer")
"""Plans with four sequences in a minibatch."""

IN_TURN = ("torch", "torch", "torch", "jax")

SIZES = (1, 2, 4)

END_WITHIN_S = 30.0

SAME = 1e-4
"""Relative to the largest number of an array: some 40 steps let roundings grow to that."""


def run(options: Options) -> Outcome:
    """Kill a worker of so many runs, and resume each with another number of processes."""
    outcome = Outcome("one of several processes killed")
    references: dict[tuple[str, str], Reference] = {}
    seen: Counter[str] = Counter()
    longest, worst = 0.0, 0.0
    for case in options.cases():
        framework = IN_TURN[case % len(IN_TURN)]
        if framework not in options.frameworks:
            continue
        draw = drawn(options.seed, "workers", case)
        name = NAMES[case % len(NAMES)] if framework == "torch" else draw.choice(NAMES)
        if (framework, name) not in references:
            folder = options.folder / f"{framework}-{name}"
            references[framework, name] = Reference(PLANS[name], framework, folder)
        attempt = references[framework, name].new(f"case-{case}")
        size, after = draw.choice(SIZES[1:]), draw.choice(SIZES)
        victim = draw.randrange(size)
        story = f"{framework} {name}: process {victim} of {size} killed, resumed with {after}"
        took, killed, wrong = lose(attempt, size, victim, draw)
        if not wrong and killed:
            ended = together(attempt.again, attempt.log, after)
            wrong = [each.text[-600:] for each in ended if each.code != 0]
            seen[f"{after}"] += 1
        if not wrong:
            gap, wrong = compare(attempt.reference.path, attempt.path)
            worst = max(worst, gap)
        longest = max(longest, took)
        seen["killed"] += killed
        if wrong:
            outcome.failed(f"{story}: {'; '.join(wrong)}", case)
        else:
            outcome.passed()
            attempt.remove()
    outcome.count = seen["killed"]
    resumed = ", ".join(f"{seen[str(size)]} with {size}" for size in SIZES)
    outcome.figures = (
        f"{outcome.cases} runs, {seen['killed']} killed before their end; all processes ended "
        f"within {longest:.1f} s; resumed {resumed}; largest relative difference {worst:.1g}"
    )
    return outcome


def begin(
    arguments: list[str], log: Path, size: int, patches: Mapping[int, Sequence[Call]] = {}
) -> list[Command]:
    """Start a command in processes that train together, in rank order.

    Args:
        arguments: of the command.
        log: what they print to; the rank comes before its suffix.
        size: how many there are.
        patches: functions that processes call first, by rank.
    """
    if size == 1:
        return [Command(arguments, log)]
    port = str(free_port(following=1, host="127.0.0.1"))
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    commands = []
    for rank in range(size):
        own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        first = [(set_environment, own), *patches.get(rank, ())]
        commands.append(Command(arguments, log.with_suffix(f".{rank}.log"), patches=first))
    return commands


def set_environment(values: Mapping[str, str]) -> None:
    os.environ.update(values)


def add_arguments(*more: str) -> None:
    """Let the command of this process have other arguments than the others."""
    sys.argv += more


def together(arguments: list[str], log: Path, size: int) -> list[Ended]:
    """Run a command in processes that train together, to its end."""
    return [command.wait() for command in begin(arguments, log, size)]


def lose(
    attempt: Attempt, size: int, victim: int, draw: random.Random
) -> tuple[float, bool, list[str]]:
    """Kill a process after the first checkpoint; how long the others take, and what is wrong."""
    commands = begin(attempt.first, attempt.log, size)
    # at once after the first checkpoint or later, as long as a run by one process takes
    if wait_for(attempt.path / "checkpoints", commands[0]):
        while not any(attempt.path.glob("checkpoints/*/complete.json")):
            if not commands[0].process.is_alive():
                break
            time.sleep(0.002)
        time.sleep(draw.uniform(0, attempt.reference.took_s))
    commands[victim].kill()
    began = time.monotonic()
    ended = [command.wait() for command in commands]
    took = time.monotonic() - began
    if ended[victim].code != -signal.SIGKILL:  # the run was done before
        return 0.0, False, [f"exit status {e.code}: {e.text[-600:]}" for e in ended if e.code]
    others = [each for rank, each in enumerate(ended) if rank != victim]
    if (attempt.path / "summary.json").exists():
        (attempt.path / "running.lock").unlink(missing_ok=True)
        (attempt.path / "summary.json").unlink()  # to be resumed, as if nothing had been measured
        return took, False, []
    lines = [line for each in others for line in each.text.splitlines() if "error: " in line]
    wrong = [] if took < END_WITHIN_S else [f"it took {took:.0f} s until all had ended"]
    wrong += [f"exit status {each.code}" for each in others if each.code != 3]
    wrong += ["a traceback" for each in others if "Traceback" in each.text]
    if len(lines) != 1 or f"process {victim} of {size}" not in lines[0]:
        wrong.append(f"the error lines are {lines}")
    return took, True, wrong


def compare(one: Path, other: Path) -> tuple[float, list[str]]:
    """The largest relative difference of two runs, and what differs by more than rounding."""
    gaps = []
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    for name in first.keys() | second.keys():
        gap = np.abs(first[name] - second[name]).max() / np.abs(first[name]).max()
        gaps.append((float(gap), name))
    for log in ("metrics.jsonl", "telemetry.jsonl"):
        lines = [
            [json.loads(line) for line in (run / log).read_text().splitlines()]
            for run in (one, other)
        ]
        for i, (a, b) in enumerate(itertools.zip_longest(*lines, fillvalue={})):
            gaps += [(gap, f"{log} {i} {where}") for gap, where in apart(a, b)]
    wrong = [f"{where} differs by {gap:.2g}" for gap, where in gaps if gap > SAME]
    return max(gaps)[0], wrong[:5]


def apart(a: Any, b: Any, where: str = "") -> Iterator[tuple[float, str]]:
    """The relative differences of two records; of a list of numbers those of the largest one."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in a.keys() | b.keys():
            yield from apart(a.get(name), b.get(name), f"{where}.{name}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and a:
        if not all(isinstance(x, float) for x in a + b):
            yield 0.0 if a == b else 1.0, where
            return
        scale = max(map(abs, a))
        yield max(abs(x - y) for x, y in zip(a, b, strict=True)) / scale if scale else 0.0, where
    elif isinstance(a, float) and isinstance(b, float):
        yield abs(a - b) / max(abs(a), abs(b), 1e-12), where
    else:
        yield 0.0 if a == b else 1.0, where
