"""The training design: module, trainer, truncation, records."""
