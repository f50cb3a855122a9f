"""Findings that repeat a watch's notes: what could not be recorded, and why."""

from unrolled.telemetry.findings.finding import Finding, Findings
from unrolled.telemetry.history import History

APART = ("sink", "out")
"""Notes that are about where records went."""


def not_seen(h: History) -> Findings:
    """A training of which no step was recorded, and what was not looked into of others."""
    notes = h.summary.get("notes")
    notes = notes if isinstance(notes, dict) else {}
    if not h.steps.length and "steps" in notes:
        yield Finding(
            "nothing recorded",
            "serious",
            f"No step was recorded: {notes['steps']}.",
            remedy="call watched.step() after every update, or step with an optimizer that holds "
            "the model's parameters",
        )
        return
    for name, note in notes.items():
        if name not in APART and not (h.first_not_finite and "not finite" in str(note)):
            remedy = "do what the note says, or nothing if you can do without it"
            yield Finding("not seen", "note", f"{name}: {note}.", parameter=name, remedy=remedy)
