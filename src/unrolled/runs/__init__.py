"""Runs: their directory, the record of their surroundings, and their progress display."""
