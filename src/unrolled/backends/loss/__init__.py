"""Cross-entropy that saves memory over large vocabularies, as ``loss/<framework>.py``."""
