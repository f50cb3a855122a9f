"""Norms and the other numbers that telemetry takes of arrays, as ``norms/<framework>.py``."""
