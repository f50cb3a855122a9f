"""The choice of an engine: measured once, then kept.

Free of any framework: an engine is whatever the caller's ``run`` can run.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from unrolled.backends.namespace import Array

ROUNDS = 5
"""Times that each engine is measured, in turn with the others."""

MUCH_SLOWER = 2.0
"""Times the best at which an engine is not measured any further."""

TOLERANCE = 0.05
"""What numbers may differ from those of the first engine, as a part of them.

Wide, since the vendor's layer may multiply in TF32, with 11 bits: it is for kernels that go wrong.
"""

MOST = 64
"""Problems that are measured in a process; graphs take memory for each."""

Make = Callable[[], Any]
Run = Callable[[Any], Sequence[Array]]
Distance = Callable[[Sequence[Array], Sequence[Array]], float]


@dataclass(frozen=True)
class Verdict:
    """What measuring found.

    Attributes:
        winner: the fastest, or the first where none works.
        seconds: of those that work, the median.
        dropped: why the others were not taken.
    """

    winner: str
    seconds: Mapping[str, float]
    dropped: Mapping[str, str]

    def __str__(self) -> str:
        """A sentence, the fastest first.

        Example:
            >>> print(Verdict("graph", {"cuDNN": 0.002, "graph": 0.0005}, {"Triton": "not here"}))
            graph 0.50 ms, cuDNN 2.00 ms; not Triton (not here)
        """
        in_order = sorted(self.seconds.items(), key=lambda item: item[1])
        measured = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in in_order)
        reasons = [f"not {name} ({reason})" for name, reason in self.dropped.items()]
        return "; ".join([measured or f"{self.winner}, unmeasured", *reasons])


def measure(
    makers: Mapping[str, Make],
    run: Run,
    distance: Distance,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Any, Verdict]:
    """The engine that is fastest, and what was found.

    Args:
        makers: by name, what makes an engine; the first is taken if none works.
        run: has an engine compute, waits for it, and gives its numbers.
        distance: the largest difference between two sets of numbers, as a part of the first.
        clock: seconds.

    Example:
        >>> time_now = iter(range(100)).__next__
        >>> makers = {"one": lambda: 1.0, "none": lambda: 1 / 0, "other": lambda: 2.0}
        >>> _, verdict = measure(makers, lambda x: [x], lambda a, b: abs(a[0] - b[0]), time_now)
        >>> print(verdict)
        one 1000.00 ms; not none (ZeroDivisionError: division by zero); not other (its numbers
        differ by 1e+00)
    """
    engines: dict[str, Any] = {}
    dropped: dict[str, str] = {}
    expected: Sequence[Array] | None = None
    for name, make in makers.items():
        try:
            engine = make()
            found = run(engine)  # translated, recorded, warm
        except Exception as error:  # not installed, out of memory, not for this device, ...
            reason, _, _ = str(error).partition("\n")
            dropped[name] = f"{type(error).__name__}: {reason}"
            continue
        expected = found if expected is None else expected
        difference = distance(expected, found)
        if difference <= TOLERANCE:  # false for NaN, too
            engines[name] = engine
        else:
            dropped[name] = f"its numbers differ by {difference:.0e}"
    if not engines:
        name, make = next(iter(makers.items()))
        return make(), Verdict(name, {}, dropped)

    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(ROUNDS):
        limit = MUCH_SLOWER * min(map(median, times.values())) if turn else float("inf")
        for name, seconds in times.items():
            if not seconds or median(seconds) <= limit:
                start = clock()
                run(engines[name])
                seconds.append(clock() - start)
    found_times = {name: median(seconds) for name, seconds in times.items()}
    winner = min(found_times, key=found_times.__getitem__)
    return engines[winner], Verdict(winner, found_times, dropped)


class Choices:
    """The engines chosen so far, by problem.

    Args:
        clock: seconds, to measure by.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.verdicts: dict[Hashable, Verdict] = {}
        self._engines: dict[Hashable, Any] = {}
        self._clock = clock

    def known(self, problem: Hashable) -> Any:
        """The engine for a problem if it has been measured, else None."""
        return self._engines.get(problem)

    def take(
        self, problem: Hashable, makers: Mapping[str, Make], run: Run, distance: Distance
    ) -> Any:
        """The engine for a problem; the arguments are those of `measure`."""
        if problem not in self._engines:
            if len(self.verdicts) >= MOST:
                return first(makers)
            engine, verdict = measure(makers, run, distance, self._clock)
            self._engines[problem], self.verdicts[problem] = engine, verdict
        return self._engines[problem]


def first(makers: Mapping[str, Make]) -> Any:
    """The engine that needs no measuring."""
    return next(iter(makers.values()))()
