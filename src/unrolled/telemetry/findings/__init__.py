"""All findings of the diagnosis, in the order in which they are looked for.

Every threshold has a name and a reason. A finding says what was seen, where, in numbers, and
what to try; where a training is well, all of them are silent.
"""

from collections.abc import Callable

from unrolled.telemetry.findings.causes import in_order
from unrolled.telemetry.findings.clipping import clipping
from unrolled.telemetry.findings.finding import Finding, Findings
from unrolled.telemetry.findings.gradients import exploded, not_finite, vanished
from unrolled.telemetry.findings.losses import divergence, memorised, plateau
from unrolled.telemetry.findings.parameters import no_gradient, not_optimized
from unrolled.telemetry.findings.seen import not_seen
from unrolled.telemetry.findings.steps import decay, not_cleared, step_size
from unrolled.telemetry.findings.units import saturated, truncation
from unrolled.telemetry.history import History

__all__ = ["FINDINGS", "Finding", "in_order"]

FINDINGS: dict[str, Callable[[History], Findings]] = {
    "not seen": not_seen,
    "NaN": not_finite,
    "no gradient": no_gradient,
    "not in the optimizer": not_optimized,
    "gradients not cleared": not_cleared,
    "exploded": exploded,
    "saturated and dead": saturated,
    "vanished": vanished,
    "step size": step_size,
    "weight decay": decay,
    "divergence": divergence,
    "plateau": plateau,
    "clipping": clipping,
    "memorised": memorised,
    "truncation too short": truncation,
}
"""All of them by what is looked for."""
