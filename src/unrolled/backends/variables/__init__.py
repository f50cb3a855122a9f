"""Find the variables of a model, as ``variables/<framework>.py``."""
