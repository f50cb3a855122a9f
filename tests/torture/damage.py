"""Cut files of a killed run at random bytes and flip random bits: it is refused, or exact."""

import random
import shutil
from collections import Counter
from pathlib import Path

from torture.outcome import Options, Outcome
from torture.processes import Death, Ended
from torture.runs import PLANS, Attempt, Reference, drawn

STOPPED = {"rnn": 0.8, "gradient-explosion": 0.7}
"""Runs that are damaged, and after which share of their calls that write they were killed: one in
its last epoch, one while it trains the last of three models."""

UNCHECKED = ("config.json", "timings.jsonl", "environment.json", "vocabulary.json")
"""Files without a checksum: people may edit them; they may be read, or refused with an error."""


def run(options: Options) -> Outcome:
    """Damage a copy of a killed run so many times, and resume it."""
    outcome = Outcome("cut at random bytes, random bits flipped")
    killed = {}
    for name, share in STOPPED.items():
        reference = Reference(PLANS[name], options.frameworks[0], options.folder / name)
        attempt = reference.new("damaged")
        attempt.start(death=Death(int(share * reference.ended.calls)))
        shutil.copytree(attempt.path, attempt.path.with_name("kept"))
        killed[name] = attempt
    ends: Counter[str] = Counter()
    for case in options.cases():
        draw = drawn(options.seed, "damage", case)
        attempt = killed[draw.choice(list(STOPPED))]
        shutil.rmtree(attempt.path, ignore_errors=True)
        shutil.copytree(attempt.path.with_name("kept"), attempt.path)
        done = [damage(attempt.path, draw) for _ in range(draw.choice([1, 1, 1, 2]))]
        ended = attempt.resume()
        end = judge(attempt, ended, [name for name, _ in done])
        ends[end] += 1
        if end.startswith("WRONG"):
            outcome.failed(f"{done}: {end}: {ended.text[-500:]}", case)
        else:
            outcome.passed()
    told = ", ".join(f"{number} {end}" for end, number in sorted(ends.items()))
    outcome.figures = f"{outcome.cases} cases, {told}"
    return outcome


def damage(path: Path, draw: random.Random) -> tuple[str, str]:
    """Cut a file, flip bits in it, or remove it: its name and what was done."""
    files = [each for each in sorted(path.rglob("*")) if each.is_file()]
    inside = [each for each in files if "checkpoints" in each.parts]
    logs = [each for each in files if each.suffix == ".jsonl"]
    file = draw.choice(draw.choices([inside, logs, files], [7, 2, 1])[0])
    name, content = file.relative_to(path).as_posix(), bytearray(file.read_bytes())
    how = draw.choices(["cut", "bits", "removed", "zeros", "longer"], [8, 8, 1, 1, 1])[0]
    if how == "removed" or not content:
        file.unlink()
        return name, "removed"
    place = draw.randrange(len(content))
    if how == "cut":
        file.write_bytes(content[:place])
        return name, f"cut at {place}"
    if how == "longer":
        file.write_bytes(content + draw.randbytes(9))
        return name, "longer"
    if how == "zeros":  # what a file system leaves that has not flushed a block
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    else:
        for _ in range(draw.choice([1, 1, 2, 8])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return name, how


def judge(attempt: Attempt, ended: Ended, names: list[str]) -> str:
    """How a damaged run has ended; WRONG if it was neither refused nor is what it should be."""
    if ended.is_error:
        return "refused"
    if ended.code != 0:
        return f"WRONG exit status {ended.code}"
    if any(name in UNCHECKED for name in names):
        return "with files that have no checksum read"
    # an old checkpoint of a finished model, which nobody needs, stays as it is, or goes if its mark
    # is damaged
    unread = tuple(name.rpartition("/")[0] for name in names if name.startswith("checkpoints/"))
    wrong = [what for what in attempt.wrong() if not what.startswith(unread)]
    return f"WRONG {wrong}" if wrong else "recovered"
