"""Data sets: texts and vocabularies, minibatches, synthetic regression, digit sums."""
