"""Diagnose a training from its records, or a run from its directory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from unrolled.errors import RunError
from unrolled.runs.ending import no_end
from unrolled.telemetry.findings import FINDINGS, Finding, in_order
from unrolled.telemetry.findings.seen import APART
from unrolled.telemetry.history import History
from unrolled.telemetry.reading import METRICS, TELEMETRY
from unrolled.telemetry.recorded_run import RecordedRun
from unrolled.telemetry.records import TelemetryRecord
from unrolled.telemetry.showing import WIDTH, wrap

__all__ = ["Diagnosis", "Finding", "diagnose", "diagnose_run"]


def diagnose(
    records: Iterable[TelemetryRecord],
    epochs: Iterable[Mapping[str, Any]] | None = None,
    summary: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """What is wrong with a training, the gravest first; an empty list if nothing is.

    A cause comes before what follows from it.

    Args:
        records: of its steps, in order; an iterator is read once, in little memory.
        epochs: of each epoch what ``metrics.jsonl`` holds: ``loss``, ``perplexity``, ...
        summary: what ``summary.json`` holds: ``perplexity``, ``heldout_perplexity``, ...

    Example:
        >>> norms = [1.0] * 30 + [float("nan")]
        >>> records = [TelemetryRecord(s, 1, 2.0, norm) for s, norm in enumerate(norms, 1)]
        >>> [(finding.name, finding.step) for finding in diagnose(records)]
        [('NaN', 31)]
    """
    history = History(summary)
    for record in records:
        history.add(record)
    history.epochs = list(epochs or ())
    return judge(history)


OF_EPOCHS = ("NaN", "exploded", "divergence", "plateau", "clipping", "memorised")
"""What can be looked for where only the epochs are known."""


class FindingList(list[Finding]):
    """Findings that are readable where they are shown."""

    def __repr__(self) -> str:
        return "\n\n".join(finding_text(each) for each in self) or "nothing to report"

    def _repr_html_(self) -> str:
        if not self:
            return "<p>nothing to report</p>"
        return "".join(
            f"<p><b>{escape(heading(each))}</b><br>{escape(each.text)}<br>"
            f"<i>What to do:</i> {escape(each.remedy)}</p>"
            for each in self
        )


def heading(finding: Finding) -> str:
    """The name of a finding, how grave it is, and where it is."""
    return f"{finding.severity}: {', '.join([finding.name, *place(finding)])}"


def place(finding: Finding) -> list[str]:
    """Step and parameter of a finding, in words."""
    where = [f"step {finding.step:,}"] if finding.step is not None else []
    return where + ([finding.parameter] if finding.parameter else [])


def finding_text(finding: Finding, width: int = WIDTH) -> str:
    """A finding for a terminal, its lines wrapped."""
    parts = [wrap(heading(finding), width), wrap(finding.text, width, "  ")]
    return "\n".join([*parts, wrap(f"What to do: {finding.remedy}", width, "  ")])


def judge(history: History) -> FindingList:
    """All findings about a history."""
    history.complete()
    return FindingList(in_order(found for find in FINDINGS.values() for found in find(history)))


@dataclass
class Diagnosis:
    """What the diagnosis of a run says.

    Attributes:
        findings: by the name of the model, ``""`` where the run has only one.
        seen: what it was judged by, one line for each model.
        skipped: what could not be read, one line for each file.
        looked_for: what could be looked for in what there is, by the name of the model.
    """

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    looked_for: dict[str, list[str]] = field(default_factory=dict)


def diagnose_run(path: str | Path) -> Diagnosis:
    """Diagnose a run by what its directory holds, complete or not.

    Without telemetry, ``metrics.jsonl`` alone is judged: less can be seen then.

    Raises:
        RunError: there is no run.
    """
    path = Path(path)
    if not path.is_dir():
        from unrolled.runs.directory import RunDirectory

        RunDirectory.open(path)  # says what is near
    if not any((path / name).is_file() for name in (TELEMETRY, METRICS)) and not no_end(path):
        raise RunError(
            f"'{path}' holds neither {TELEMETRY} nor {METRICS}: there is nothing to diagnose. "
            "Name a directory that `unrolled run` or watch(model, out=...) has made; what was "
            "logged of a run that was converted stays with the first one"
        )
    run = RecordedRun(path).read()
    result = diagnosis_of(run)
    if TELEMETRY in run.missing:
        result.skipped.append(f"there is no {TELEMETRY}: judged by the epochs alone")
    return result


def diagnosis_of(run: RecordedRun) -> Diagnosis:
    """The diagnosis of a run that has been read."""
    apart = [f"{name}: {run.unseen[name]}" for name in APART if name in run.unseen]
    result = Diagnosis(skipped=run.problems + apart)
    for part, each in run.histories.items() or {"": run.history("")}.items():
        if not each.steps.length:
            _from_epochs(each)
        result.findings[part] = judge(each)
        result.seen.append(_seen(each))
        result.looked_for[part] = [
            name
            for name in FINDINGS
            if each.steps.length and (each.parameters or name in OF_EPOCHS)
        ]
    end = no_end(run.path)
    if end is not None:
        name = "still running" if end.is_running else "no end"
        found = Finding(name, end.severity, end.text, end.step, remedy=end.remedy)
        result.findings[next(reversed(result.findings))].insert(0, found)
    return result


def as_text(diagnosis: Diagnosis, title: str, width: int = 80) -> str:
    """A diagnosis for a terminal, its lines wrapped."""
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(wrap(text, width))

    for (part, findings), seen in zip(diagnosis.findings.items(), diagnosis.seen, strict=True):
        say(f"{title}{', ' + part if part else ''} ({seen})")
        for finding in findings:
            lines += ["", finding_text(finding, width)]
        if not findings:
            looked_for = diagnosis.looked_for.get(part, list(FINDINGS))
            nothing = "there is nothing in it that could be looked at"
            said = f"nothing to report; looked for: {', '.join(looked_for)}"
            say(said if looked_for else nothing)
        lines.append("")
    for text in diagnosis.skipped:
        say(f"note: {text}")
    return "\n".join(lines).strip()


def _from_epochs(history: History) -> None:
    """Steps made of epochs, where there is no telemetry: the loss and the norms."""
    for line in history.epochs:
        known = {n: float(v) for n, v in line.items() if isinstance(v, int | float)}
        step = known.get("step") or known.get("epoch") or 0
        norm, clipped = known.get("gradient_norm"), known.get("clipped_norm")
        clip = min(1.0, clipped / norm) if norm and clipped else None
        record = TelemetryRecord(int(step), None, known.get("loss"), norm, clipped, clip)
        history.add(record)


def _seen(history: History) -> str:
    steps = history.steps["step"]
    what = [f"{len(steps):,} {'records' if history.parameters else 'lines'}"]
    if len(steps):
        what.append(f"steps {steps[0]:.0f} to {steps[-1]:.0f}")
    if history.parameters:
        what.append(f"{len(history.parameters)} parameters")
    if history.layers:
        what.append(f"through time: {', '.join(history.layers)}")
    return "; ".join(what)
