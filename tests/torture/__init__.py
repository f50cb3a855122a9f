"""Long tests of checkpoints and exact resume (`make torture`), a file for each kind."""
