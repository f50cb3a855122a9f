"""Checkpoints on disk: trees of state, the folders that hold them, and when to write one."""
