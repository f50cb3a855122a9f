"""Competitors that need a process of their own: one process has one backend of Keras.

The other process runs the same command for those competitors, together with the yardstick,
so that their ratios mean the same; its speeds are its own.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unrolled.bench.results import Result


def run(keras: str, arguments: Sequence[str]) -> list[Result]:
    """The results of ``unrolled bench`` in another process.

    Args:
        keras: its backend of Keras.
        arguments: of the command.

    Raises:
        KeyboardInterrupt: this process was told to stop; the other has been, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", "unrolled", "bench", *arguments, "--json", str(file)]
        process = subprocess.Popen(
            command,
            env=os.environ | {"KERAS_BACKEND": keras},
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches this process only, which hands it on
        )
        try:
            process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        if not file.exists():
            return []
        found = [Result.from_json(data) for data in json.loads(file.read_text())["results"]]
    title = f"in a process of its own (KERAS_BACKEND={keras})"
    return [replace(result, title=f"{result.title}, {title}") for result in found]
