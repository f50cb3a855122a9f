"""Processes for tests of what stops a training: signals, and a terminal that closes."""

import signal
import subprocess
import time


def start(command, **options):
    """Start a process that hears of its terminal's closing, also where the tests do not (nohup)."""
    if not hasattr(signal, "SIGHUP"):
        return subprocess.Popen(command, **options)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for_epochs(process, metrics, count):
    """Wait until a training has written so many lines."""
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= count):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
