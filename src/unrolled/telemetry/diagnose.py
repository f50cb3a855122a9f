"""Diagnose a training from its records, or a run from its directory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unrolled.errors import RunError
from unrolled.runs.ending import no_end
from unrolled.telemetry.finding_list import FindingList, finding_text
from unrolled.telemetry.findings import FINDINGS, Finding, in_order
from unrolled.telemetry.findings.finding import NOTE
from unrolled.telemetry.findings.seen import APART
from unrolled.telemetry.history import History
from unrolled.telemetry.reading import METRICS, TELEMETRY
from unrolled.telemetry.recorded_run import RecordedRun
from unrolled.telemetry.records import TelemetryRecord
from unrolled.telemetry.showing import wrap

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
    return judge(History.of(records, epochs, summary))


OF_EPOCHS = ("NaN", "exploded", "divergence", "plateau", "clipping", "memorised")
"""What can be looked for where only the epochs are known."""


def judge(history: History) -> list[Finding]:
    """All findings about a history."""
    history.complete()
    findings = (finding for find in FINDINGS.values() for finding in find(history))
    return FindingList(in_order(findings))


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
    result = Diagnosis()
    result.skipped += run.problems
    result.skipped += [f"{name}: {run.unseen[name]}" for name in APART if name in run.unseen]
    for part, each in run.histories.items() or {"": run.history("")}.items():
        if not each.steps.length:
            _from_epochs(each)
        result.findings[part] = judge(each)
        result.seen.append(_seen(each))
        result.looked_for[part] = _looked_for(each)
    add_end(run.path, result.findings)
    return result


def add_end(path: Path, findings: dict[str, list[Finding]]) -> None:
    """Put before the findings about a run's last model that the run has no end, if so."""
    found = no_end(path)
    if found is not None:
        name = "still running" if found.severity == NOTE else "no end"
        last = next(reversed(findings), "")
        end = Finding(name, found.severity, found.text, found.step, remedy=found.remedy)
        findings.setdefault(last, []).insert(0, end)


def as_text(diagnosis: Diagnosis, title: str, width: int = 80) -> str:
    """A diagnosis for a terminal, its lines wrapped.

    Example:
        >>> finding = Finding("plateau", "warning", "The loss stands.", 7, None, {}, "Wait.")
        >>> print(as_text(Diagnosis({"": [finding]}, ["80 records"]), "runs/mine"))
        runs/mine (80 records)
        <BLANKLINE>
        warning: plateau, step 7
          The loss stands.
          What to do: Wait.
    """
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(wrap(text, width))

    for (part, findings), seen in zip(diagnosis.findings.items(), diagnosis.seen, strict=True):
        say(f"{title}{', ' + part if part else ''} ({seen})")
        for finding in findings:
            lines += ["", finding_text(finding, width)]
        if not findings:
            looked_for = diagnosis.looked_for.get(part, list(FINDINGS))
            say(
                f"nothing to report; looked for: {', '.join(looked_for)}"
                if looked_for
                else "there is nothing in it that could be looked at"
            )
        lines.append("")
    for text in diagnosis.skipped:
        say(f"note: {text}")
    return "\n".join(lines).strip()


def _from_epochs(history: History) -> None:
    """Steps made of epochs, where there is no telemetry: the loss and the norms."""
    for line in history.epochs:
        loss, norm = _number(line.get("loss")), _number(line.get("gradient_norm"))
        step = _number(line.get("step")) or _number(line.get("epoch")) or 0
        clipped = _number(line.get("clipped_norm"))
        history.add(
            TelemetryRecord(
                step=int(step),
                epoch=None,
                loss=loss,
                gradient_norm=norm,
                clipped_norm=clipped,
                clip_coefficient=min(1.0, clipped / norm) if norm and clipped else None,
            )
        )


def _looked_for(history: History) -> list[str]:
    if not history.steps.length:
        return []
    return [name for name in FINDINGS if history.parameters or name in OF_EPOCHS]


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


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
