"""Stop runs at chosen places, resume them, and compare with a run that was never stopped."""

import os
import signal
from collections.abc import Sequence

from torture.outcome import Options, Outcome
from torture.processes import Ended, at, send
from torture.runs import PLANS, Attempt, Reference

EPOCH, LAST = 9, 27
"""Steps of an epoch, and of the whole training, of the plan that is stopped."""

TERM, INT, KILL = (signal.SIGTERM,), (signal.SIGINT,), (signal.SIGKILL,)

Stop = tuple[str, int, Sequence[int]]
"""An event, the step after which it is called, and signals that are sent then."""

CODES = {TERM: 143, INT: 130, KILL: -9, INT * 2: 130, TERM * 2: -15, TERM + INT: 130}
"""Exit statuses."""

STOPS: dict[str, list[Stop]] = {
    "three resumes in an epoch": [("on_step", step, TERM) for step in (10, 12, 13)],
    "three kills in an epoch": [("on_step", step, KILL) for step in (10, 12, 15)],
    "stopped again before a step": [("on_step", 10, INT), ("on_fit_start", 0, INT)],
    "before the first step": [("on_fit_start", 0, TERM)],
    "at the first step": [("on_step", 1, INT)],
    "at the last step of an epoch": [("on_step", EPOCH, TERM)],
    "between two epochs": [("on_epoch", EPOCH, INT)],
    "killed between two epochs": [("on_epoch", EPOCH, KILL)],
    "killed in the last epoch": [("on_step", 22, KILL)],
    "at the last step": [("on_step", LAST, INT)],
    "killed at the last step": [("on_step", LAST, KILL)],
    "after the last step": [("on_epoch", LAST, TERM)],
    "killed after the last step": [("on_fit_end", LAST, KILL)],
    "two Ctrl-C": [("on_step", 11, INT * 2)],
    "two SIGTERM": [("on_step", 11, TERM * 2)],
    "SIGTERM, then Ctrl-C": [("on_step", 11, TERM + INT)],
}


def run(options: Options) -> Outcome:
    """Stop a run of every framework at every place."""
    outcome = Outcome("stopped at chosen places")
    for framework in options.frameworks:
        reference = Reference(PLANS["rnn"], framework, options.folder / framework)
        for name, stops in STOPS.items():
            attempt = reference.new("stopped")
            wrong = stopped(attempt, stops)
            outcome.check(not wrong, f"{framework}, {name}: {wrong}")
            attempt.remove()
        attempt = reference.new("stopped")
        killed = attempt.start(patches=[(at, "on_step", 1, send, *KILL)])
        ended = attempt.resume()
        right = killed.code == -9 and ended.is_error and "no whole checkpoint" in ended.text
        outcome.check(right, f"{framework}, before any checkpoint: {ended.text}")
    outcome.figures = f"{outcome.cases} runs"
    return outcome


def stopped(attempt: Attempt, stops: Sequence[Stop]) -> list[str]:
    """What is wrong with a run that was stopped at places in turn, and resumed each time."""
    for number, (event, step, signals) in enumerate(stops):
        begin = attempt.resume if number else attempt.start
        ended = begin(patches=[(at, event, step, send, *signals)])
        if wrong := wrong_stop(attempt, ended, step, signals):
            return [wrong, ended.text[-600:]]
    ended = attempt.resume()
    if ended.code != 0:
        return [f"exit status {ended.code}: {ended.text[-600:]}"]
    return attempt.wrong()


def wrong_stop(attempt: Attempt, ended: Ended, step: int, signals: Sequence[int]) -> str:
    """What is wrong with the end of a process that was sent signals."""
    if ended.code != CODES[tuple(signals)]:
        return f"exit status {ended.code}"
    if "Traceback" in ended.text:
        return "a traceback"
    if len(signals) == 1 and signals != KILL:
        if f"go on with: unrolled run --resume {attempt.path}\n" not in ended.text:
            return "no word how to go on"
        if step and not (attempt.path / f"checkpoints/step-{step:06d}").is_dir():
            return "no checkpoint"
        if os.path.lexists(attempt.path / "running.lock"):
            return "the lock is there still"
    return ""
