"""Findings about a run, in the form that the page shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from unrolled.report.reading import Run
from unrolled.runs.ending import no_end
from unrolled.telemetry.diagnose import Finding, add_end, diagnose_run, judge


@dataclass(frozen=True)
class Box:
    """A finding as the page shows it: kind, head, text, further lines."""

    kind: str
    head: str
    text: str
    more: Sequence[str] = field(default_factory=tuple)


def boxes(run: Run) -> list[Box]:
    """What the diagnosis says of a run; empty where there is nothing to judge by."""
    try:
        return _diagnosed(run)
    except Exception as error:  # a page with all else on it is worth more than none
        what = f"{type(error).__name__}: {error}"
        return [Box("note", "no diagnosis", f"It failed on this run ({what}).")]


def _diagnosed(run: Run) -> list[Box]:
    if run.telemetry:
        findings: dict[str, list[Finding]] = {
            part: judge(history) for part, history in run.histories.items()
        }
        add_end(run.path, findings)
        steps = sum(t.steps for t in run.telemetry.values())
        seen = f"Judged by {steps:,} recorded step{'s' * (steps != 1)}."
    else:
        findings = diagnose_run(run.path).findings if run.metrics or no_end(run.path) else {}
        seen = "Judged by its epochs alone, as it kept no telemetry: less can be seen then."
    found = [_box(part, each) for part, all_ in findings.items() for each in all_]
    if findings and not found:
        return [Box("good", "nothing found", f"No sign of trouble. {seen}")]
    return found


def _box(part: str, found: Finding) -> Box:
    where = [part] if part else []
    where += [f"step {found.step:,}"] if found.step is not None else []
    where += [str(found.parameter)] if found.parameter else []
    head = f"{found.name} ({', '.join(where)})" if where else found.name
    remedy = f"What to do: {found.remedy}." if found.remedy else ""
    return Box(found.severity, head, found.text, (remedy,))
