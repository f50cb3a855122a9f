"""Which finding is the root cause, and which findings follow from it."""

from collections.abc import Iterable
from dataclasses import replace

from unrolled.telemetry.findings.finding import SEVERITIES, Finding

FAILURES = ("NaN", "divergence", "plateau")
STUCK = ("saturated", "saturated and dead", "dead", "gates saturated", "vanished", "zero gradient")
STALLED = ("vanished", "zero gradient", "plateau", "step too small")

FOLLOWS: dict[str, tuple[str, ...]] = {
    "gradients not cleared": (*FAILURES, "exploded", "step too large", "saturated"),
    "clipping without effect": ("NaN", "divergence", "exploded", "step too large"),
    "weight decay too strong": (*STUCK, "plateau", "step too large", "step too small"),
    "gates saturated": (*STALLED, "exploded", "step too large"),
    "saturated and dead": (*STALLED, "exploded", "divergence"),
    "saturated": (*STALLED, "exploded"),
    "dead": STALLED,
    "exploded": (*FAILURES, *STUCK, "step too large", "clipped nearly always"),
    "step too large": (*FAILURES, *STUCK, "exploded"),
    "clipped nearly always": ("step too small", "plateau"),
    "not used": (),
    "no gradient": ("plateau",),
    "not in the optimizer": (),
    "step too small": ("plateau",),
    "NaN": ("divergence", "plateau", "saturated", "saturated and dead", "dead"),
    "zero gradient": ("plateau", "vanished", "step too small"),
    "vanished": ("plateau",),
    "divergence": ("plateau", "saturated", "saturated and dead", "dead", "vanished"),
}
"""What each finding may bring about, by name; causes first."""


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, causes before what follows from them, the gravest first.

    A cause is as grave as the gravest of its consequences.
    """
    rest, groups = list(findings), list[list[Finding]]()
    while rest:
        free = [f for f in rest if not any(_causes(g, f) for g in rest)]
        group = [min(free or rest, key=_rank)]
        causes = {id(group[0]): group[0]}
        for cause in group:  # grows as it is read
            rest = [f for f in rest if id(f) not in causes]
            for finding in rest:
                if _causes(cause, finding):
                    causes[id(finding)] = cause
                    group.append(finding)
        rest = [f for f in rest if id(f) not in causes]
        severity = min((f.severity for f in group), key=SEVERITIES.index)
        root = replace(group[0], severity=severity)
        groups.append([root, *(_said(root, causes[id(f)], f) for f in group[1:])])
    groups.sort(key=lambda group: (SEVERITIES.index(group[0].severity), _rank(group[0])))
    return [finding for group in groups for finding in group]


def _rank(finding: Finding) -> int:
    names = [*FOLLOWS, finding.name]
    return names.index(finding.name)


def _causes(cause: Finding, other: Finding) -> bool:
    """Whether one finding may have brought about the other, which came no earlier."""
    if cause is other or other.name not in FOLLOWS.get(cause.name, ()):
        return False
    if cause.step is None or other.step is None:
        later = not (cause.step is not None and cause.name in FOLLOWS.get(other.name, ()))
        return later or _rank(cause) < _rank(other)
    if cause.step == other.step and cause.name in FOLLOWS.get(other.name, ()):
        return _rank(cause) < _rank(other)
    return cause.step <= other.step


def _said(root: Finding, cause: Finding, finding: Finding) -> Finding:
    at = f" in step {cause.step:,}" if cause.step is not None and cause.name == "exploded" else ""
    return replace(
        finding,
        text=f"{finding.text} It follows from '{cause.name}'{at}.",
        remedy=f"repair '{root.name}' first",
        follows_from=cause.name,
    )
