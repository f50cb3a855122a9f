"""Record where, when and by which command a run took place."""

import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

from unrolled.backends import Backend
from unrolled.training.surroundings import surroundings

ENVIRONMENT = "environment.json"


def environment(backend: Backend | None = None) -> dict[str, Any]:
    """When and how it began, versions, machine, and what the backend says of itself."""
    began = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
    }
    return {**began, "cpus": os.cpu_count(), **surroundings(backend)}
