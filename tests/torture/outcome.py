"""What a kind of torture is given, and what it gives back."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How much to do.

    Attributes:
        count: cases of a kind that has as many as one likes.
        seed: of all draws.
        case: the only one to do; None does all.
        minutes: of a training whose memory is watched.
        folder: for the runs; it is there, and empty.
        frameworks: that are installed.
    """

    count: int
    seed: int
    folder: Path
    frameworks: tuple[str, ...]
    case: int | None = None
    minutes: float = 1.0

    def cases(self) -> Iterable[int]:
        """The numbers of the cases."""
        return range(self.count) if self.case is None else [self.case]


@dataclass
class Outcome:
    """How a kind of torture went."""

    kind: str
    figures: str = ""
    cases: int = 0
    count: int = 0
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def passed(self) -> None:
        self.cases += 1

    def failed(self, what: str, case: int | None = None) -> None:
        self.cases += 1
        self.failures.append(what if case is None else f"CASE={case}: {what}")

    def check(self, right: object, what: str) -> None:
        """Count a case by whether it is right."""
        if right:
            self.passed()
        else:
            self.failed(what)
