"""Show a list of findings in a terminal or a notebook."""

from html import escape

from unrolled.telemetry import showing
from unrolled.telemetry.findings.finding import Finding


class FindingList(list[Finding]):
    """Findings that are readable where they are shown.

    Example:
        >>> FindingList([Finding("plateau", "warning", "The loss stands.", 7, None, {}, "Wait.")])
        warning: plateau, step 7
          The loss stands.
          What to do: Wait.
        >>> FindingList()
        nothing to report
    """

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
    where = [f"step {finding.step:,}"] if finding.step is not None else []
    where += [finding.parameter] if finding.parameter else []
    return f"{finding.severity}: {', '.join([finding.name, *where])}"


def finding_text(finding: Finding, width: int = showing.WIDTH) -> str:
    """A finding for a terminal, its lines wrapped."""
    parts = [showing.wrap(heading(finding), width), showing.wrap(finding.text, width, "  ")]
    return "\n".join([*parts, showing.wrap(f"What to do: {finding.remedy}", width, "  ")])
