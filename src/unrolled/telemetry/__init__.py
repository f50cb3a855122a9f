"""`TelemetryRecord` and its parts; `diagnose`, `diagnose_run` and their findings."""

from typing import NoReturn

from unrolled.public_names import WATCH, no_such_name
from unrolled.telemetry.diagnose import Diagnosis, Finding, diagnose, diagnose_run
from unrolled.telemetry.records import LayerRecord, ParameterRecord, TelemetryRecord

__all__ = [
    "Diagnosis",
    "Finding",
    "LayerRecord",
    "ParameterRecord",
    "TelemetryRecord",
    "diagnose",
    "diagnose_run",
]


def __getattr__(name: str) -> NoReturn:
    if name in WATCH:
        raise no_such_name(__name__, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
