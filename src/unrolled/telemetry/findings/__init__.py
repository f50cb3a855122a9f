"""What can be wrong with a training, each as a small function from its history.

Every threshold has a name and a reason. A finding says what was seen, where, in numbers, and
what to try; where a training is well, all of them are silent.
"""

from collections.abc import Callable

from unrolled.telemetry.findings.finding import Finding, Findings
from unrolled.telemetry.findings.gradients import exploded, not_finite, vanished
from unrolled.telemetry.findings.losses import clipping, divergence, memorised, plateau
from unrolled.telemetry.findings.units import saturated, truncation
from unrolled.telemetry.history import History

__all__ = ["FINDINGS", "Finding"]

FINDINGS: dict[str, Callable[[History], Findings]] = {
    "NaN": not_finite,
    "exploded": exploded,
    "saturated and dead": saturated,
    "vanished": vanished,
    "divergence": divergence,
    "plateau": plateau,
    "clipping": clipping,
    "memorised": memorised,
    "truncation too short": truncation,
}
"""All of them, the gravest first."""
