"""Instruments for training: gradient norms by parameter and through time, and a diagnosis."""

from unrolled.telemetry.diagnose import Diagnosis, Finding, diagnose, diagnose_run
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord
from unrolled.telemetry.watch import watch

__all__ = [
    "Diagnosis",
    "Finding",
    "LayerRecord",
    "ParameterRecord",
    "TelemetryRecord",
    "diagnose",
    "diagnose_run",
    "watch",
]
