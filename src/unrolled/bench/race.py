"""Time competitors in turns, A B C A B C ..., in one process.

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
"""Pause before a turn: idle threads of the competitor before spin for a while, then sleep.

Those of NumPy's OpenBLAS spin for a tenth of a second; with a shorter pause whoever comes next
shares the cores with them.
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
    """What takes turns.

    Attributes:
        name: short, as on the command line.
        title: for the table.
        start: builds it, which may take a while or fail; gives what makes work ready.
        units: of one piece of work, tokens for one.
        operations: floating point operations of one piece of work; 0 if nobody counts.
        precision: of its products.
        is_limit: whether it is the bare matrix product that the others are measured by.
    """

    name: str
    title: str
    start: Callable[[], Ready]
    units: int = 1
    operations: float = 0.0
    precision: str = "float32"
    is_limit: bool = False


@dataclass(frozen=True)
class Race:
    """Entrants that do the like; the first that runs is the yardstick.

    Attributes:
        title: what is raced for.
        facts: sizes and settings, kept with the results.
        entrants: in the order of their turns.
        unit: what work is counted in.
    """

    title: str
    facts: dict[str, Any]
    entrants: Sequence[Entrant]
    unit: str = "tokens"


@dataclass
class Timings:
    """What a race has measured so far.

    Attributes:
        pieces: pieces of work in a turn.
        seconds: of each entrant that runs, by name, one piece of work in each round.
        failed: why an entrant does not run, by name.
    """

    pieces: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """Rounds that every entrant has finished."""
        return min(map(len, self.seconds.values()), default=0)


def run(
    race: Race,
    timings: Timings,
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run a race.

    Args:
        race: who, and what.
        timings: where results go, so that they are there after Ctrl-C, too.
        rounds: turns of each entrant, without the round that warms up.
        seconds: how long all those turns together shall last; they are made as long as
            that asks for, by the time that a piece of work took at first.
        say: told what is going on.
        clock: seconds that pass.
        sleep: waits so many seconds.
    """
    ready = _started(race, timings, say)
    if not ready:
        return
    one = {name: entrant(1) for name, entrant in ready.items()}
    once = [min(_timed(turn, clock) for _ in range(FIRST)) for turn in one.values()]
    timings.pieces = min(max(1, round(seconds / (rounds + 1) / sum(once))), MOST_PIECES)
    turns = {name: entrant(timings.pieces) for name, entrant in ready.items()}
    for number in range(rounds + 1):
        what = f"round {number} of {rounds}" if number else "warming up"
        say(f"{race.title}: {what}, {timings.pieces} at a time")
        for name, turn in turns.items():
            sleep(SETTLE_S)
            _warm_up(one[name], clock)
            taken = _timed(turn, clock) / timings.pieces
            if number:
                timings.seconds.setdefault(name, []).append(taken)


def _started(race: Race, timings: Timings, say: Callable[[str], None]) -> dict[str, Ready]:
    """Every entrant built, and run once; those that cannot are noted as failed."""
    ready = {}
    for entrant in race.entrants:
        say(f"{race.title}: {entrant.title} is getting ready")
        try:
            made = entrant.start()
            made(1)()
        except Exception as error:  # a broken installation shall not spoil the rest
            reason = " ".join(str(error).split())
            timings.failed[entrant.name] = f"{type(error).__name__}: {reason}"[:200]
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


def repeated(work: Callable[[], Any]) -> Ready:
    """An entrant whose turn is the same call over and over.

    Example:
        >>> calls = []
        >>> repeated(lambda: calls.append(1))(3)()
        >>> len(calls)
        3
    """

    def ready(count: int) -> Turn:
        def turn() -> None:
            for _ in range(count):
                work()

        return turn

    return ready
