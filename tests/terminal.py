"""Processes for tests of a terminal that closes."""

import signal
import subprocess


def start(command, **options):
    """Start a process that hears of its terminal's closing, also where the tests do not (nohup)."""
    if not hasattr(signal, "SIGHUP"):
        return subprocess.Popen(command, **options)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGHUP, before)
