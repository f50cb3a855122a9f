"""Time competitors in turns, A B C A B C ..., in one process: `Race`, `run`.

On a shared machine a speed by itself means little: a neighbour may have been busy just then.
So every competitor takes a short turn in every round, and compared are turns of the same
round. The first round warms up and does not count.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Turn = Callable[[], object]
"""Does the work once, and returns when the device has done all of it."""

Ready = Callable[[int], Turn]
"""Makes so many pieces of work ready, outside the clock."""

SETTLE_S = 0.2
"""Pause before a turn, in which idle threads of the competitor before fall asleep.

Those of NumPy's OpenBLAS spin for a tenth of a second and would share the cores with whoever
comes next.
"""

WARM_S = 0.15
"""Untimed work before a turn, at least: caches are cold, and cores asleep.

A system may run the threads of a process that slept on one core for a twentieth of a second
before it gives them all cores again.
"""

FIRST = 3
"""Pieces to tell by how long one takes: the quickest, as others may compile or record first."""

MOST_PIECES = 64
"""Pieces of a turn at most, however quick they are."""


@dataclass(frozen=True)
class Entrant:
    """A competitor or matrix product that takes turns in a race."""

    name: str  # short, as on the command line
    title: str  # for the table
    start: Callable[[], Ready]  # builds it, which may take a while or fail
    units: int = 1  # tokens of one piece of work
    operations: float = 0.0  # floating point operations of one piece; 0 if nobody counts
    is_limit: bool = False  # whether it is the bare matrix product that the others are measured by


@dataclass
class Race:
    """Entrants in the order of their turns, and what was measured so far.

    The first entrant that runs is the yardstick of the others.
    """

    title: str
    facts: dict[str, Any]  # sizes and settings, kept with the results
    entrants: Sequence[Entrant]
    pieces: int = 0  # pieces of work in a turn
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of one piece in each round
    failed: dict[str, str] = field(default_factory=dict)  # why an entrant does not run

    @property
    def rounds(self) -> int:
        """Rounds that every entrant has finished."""
        return min(map(len, self.seconds.values()), default=0)


def run(
    race: Race,
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run a race; results are in it after Ctrl-C, too.

    Args:
        race: who, and what.
        rounds: turns of each entrant, without the round that warms up.
        seconds: how long all turns together shall last, judged by the first pieces of work.
        say: told what is going on.
        clock, sleep: as of `time`.
    """
    ready = _started(race, say)
    if not ready:
        return
    one = {name: entrant(1) for name, entrant in ready.items()}
    once = [min(_timed(turn, clock) for _ in range(FIRST)) for turn in one.values()]
    race.pieces = min(max(1, round(seconds / (rounds + 1) / sum(once))), MOST_PIECES)
    turns = {name: entrant(race.pieces) for name, entrant in ready.items()}
    for number in range(rounds + 1):
        what = f"round {number} of {rounds}" if number else "warming up"
        say(f"{race.title}: {what}, {race.pieces} at a time")
        for name, turn in turns.items():
            sleep(SETTLE_S)
            _warm_up(one[name], clock)
            taken = _timed(turn, clock) / race.pieces
            if number:
                race.seconds.setdefault(name, []).append(taken)


def _started(race: Race, say: Callable[[str], None]) -> dict[str, Ready]:
    """Every entrant built, and run once; those that cannot are noted as failed."""
    ready = {}
    for entrant in race.entrants:
        say(f"{race.title}: {entrant.title} is getting ready")
        try:
            made = entrant.start()
            made(1)()
        except Exception as error:  # a broken installation shall not spoil the rest
            reason = " ".join(str(error).split())
            race.failed[entrant.name] = f"{type(error).__name__}: {reason}"[:200]
        else:
            ready[entrant.name] = made
    return ready


def _timed(turn: Turn, clock: Callable[[], float]) -> float:
    started = clock()
    turn()
    return clock() - started


def _warm_up(turn: Turn, clock: Callable[[], float]) -> None:
    started = clock()
    turn()
    while clock() - started < WARM_S:
        turn()


def repeated(work: Callable[[], Any], wait: Callable[[], Any] = lambda: None) -> Ready:
    """An entrant whose turn is the same call over and over, and a wait for the device."""

    def ready(count: int) -> Turn:
        def turn() -> None:
            for _ in range(count):
                work()
            wait()

        return turn

    return ready
