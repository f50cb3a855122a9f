"""Kill runs with SIGKILL at random moments, also inside a save, and resume them: the same bytes."""

import random
import time
from collections import Counter
from pathlib import Path

from torture.outcome import Options, Outcome
from torture.processes import Command, Death, Ended, wait_for
from torture.runs import PLANS, Attempt, Reference, drawn

IN_TURN = ("torch", "mxnet", "torch", "jax", "torch", "mxnet", "torch", "tensorflow")
"""Frameworks of the cases; those that compile a step, which takes seconds, come less often."""

MOST_KILLS = 3
"""Of one run."""


def run(options: Options) -> Outcome:
    """Kill so many runs, some of them while they are resumed, too."""
    outcome = Outcome("killed at random moments")
    references: dict[tuple[str, str], Reference] = {}
    kills: Counter[str] = Counter()
    for case in options.cases():
        framework = IN_TURN[case % len(IN_TURN)]
        if framework not in options.frameworks:
            continue
        draw = drawn(options.seed, "kills", case)
        # every framework has every plan before one comes again
        before = [IN_TURN[other % len(IN_TURN)] for other in range(case)].count(framework)
        name = list(PLANS)[(before + options.seed) % len(PLANS)]
        if (framework, name) not in references:
            folder = options.folder / f"{framework}-{name}"
            references[framework, name] = Reference(PLANS[name], framework, folder)
        reference = references[framework, name]
        attempt = reference.new(f"case-{case}")
        story, wrong = one(attempt, draw, kills)
        if wrong:
            outcome.failed(f"{framework} {name}: {', '.join(story)}: {'; '.join(wrong)}", case)
        else:
            outcome.passed()
            attempt.remove()
    outcome.count = sum(kills[how] for how in ("call", "moment"))
    outcome.figures = (
        f"{outcome.cases} runs of {len({f for f, _ in references})} frameworks killed "
        f"{outcome.count} times, {kills['call']} at a call that writes and {kills['moment']} at "
        f"any moment, {kills['resumed']} while being resumed; {kills['none']} before the first "
        f"checkpoint, refused"
    )
    return outcome


def one(attempt: Attempt, draw: random.Random, kills: Counter[str]) -> tuple[list[str], list[str]]:
    """Kill a run and resume it until it is done: what was done, and what is wrong."""
    story, left = [], draw.choices(range(1, MOST_KILLS + 1), [6, 3, 1])[0]
    first = True
    while True:
        arguments = attempt.first if first else attempt.again
        ended, what = dying(attempt, arguments, draw) if left else (None, "")
        if ended is None:
            ended = Command(arguments, attempt.log).wait()
        story.append(what or "resumed")
        if ended.code == -9:
            left -= 1
            kills["call" if "call" in what else "moment"] += 1
            kills["resumed"] += not first
            first = False
            if (attempt.path / "summary.json").exists():  # all is written; nobody unlocks it now
                (attempt.path / "running.lock").unlink(missing_ok=True)
            else:
                half_a_line(attempt.path, draw)
        elif not any(attempt.path.glob("checkpoints/**/complete.json")) and ended.is_error:
            kills["none"] += 1  # there is nothing to go on from, and it says so
            if first or "no whole checkpoint" in ended.text or "is no complete run" in ended.text:
                attempt.remove()
                first, left = True, 1
                continue
            return story, [ended.text]
        elif ended.code != 0 and "is finished" not in ended.text:
            return story, [f"exit status {ended.code}: {ended.text[-600:]}"]
        else:
            return story, attempt.wrong()


def dying(attempt: Attempt, arguments: list[str], draw: random.Random) -> tuple[Ended, str]:
    """Begin a command and kill it, if it does not end before."""
    reference = attempt.reference
    if draw.random() < 0.6:
        # seldom before there is anything to go on from
        least = 1 if draw.random() < 0.1 else reference.ended.first
        number = draw.randint(least, reference.ended.calls)
        how = draw.choice(["before", "after", "torn"])
        death = Death(number, how, draw.randrange(2**32))  # type: ignore[arg-type]
        ended = Command(arguments, attempt.log, death).wait()
        return ended, f"killed {how} call {number}"
    wait_s = draw.uniform(0, reference.took_s)
    command = Command(arguments, attempt.log)
    if wait_for(attempt.path / "checkpoints", command):
        time.sleep(wait_s)
        command.kill()
    return command.wait(), f"killed after {wait_s:.3f} s"


def half_a_line(run: Path, draw: random.Random) -> None:
    """Leave at the end of a log what a process leaves that is killed while it writes."""
    logs = [log for log in sorted(run.glob("*.jsonl")) if log.stat().st_size]
    if logs and draw.random() < 0.3:
        log = draw.choice(logs)
        line = log.read_bytes().splitlines()[-1]
        with log.open("ab") as file:
            file.write(line[: draw.randrange(len(line) + 1)])
