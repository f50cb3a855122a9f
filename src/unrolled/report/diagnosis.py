"""Findings of the diagnosis as boxes of the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from unrolled.report.reading import Run
from unrolled.runs.ending import no_end
from unrolled.telemetry.diagnose import Finding, diagnosis_of


@dataclass(frozen=True)
class Box:
    """A finding as the page shows it: kind, head, text, further lines."""

    kind: str
    head: str
    text: str
    more: Sequence[str] = field(default_factory=tuple)


def boxes(run: Run) -> list[Box]:
    """What the diagnosis says of a run; empty where there is nothing to judge by."""
    if not (run.telemetry or run.metrics or no_end(run.path)):
        return []
    findings = diagnosis_of(run).findings
    seen = "Judged by its epochs alone, as it kept no telemetry: less can be seen then."
    if run.telemetry:
        steps = sum(t.steps for t in run.telemetry.values())
        seen = f"Judged by {steps:,} recorded step{'s' * (steps != 1)}."
    found = [_box(part, each) for part, all_ in findings.items() for each in all_]
    if not found:
        return [Box("good", "nothing found", f"No sign of trouble. {seen}")]
    return found


def _box(part: str, found: Finding) -> Box:
    where = [part] if part else []
    where += [f"step {found.step:,}"] if found.step is not None else []
    where += [str(found.parameter)] if found.parameter else []
    head = f"{found.name} ({', '.join(where)})" if where else found.name
    remedy = f"What to do: {found.remedy}." if found.remedy else ""
    return Box(found.severity, head, found.text, (remedy,))
