"""Runs: directory, environment, progress, and how a run ended."""
