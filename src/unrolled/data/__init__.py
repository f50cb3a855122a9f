"""Data sets: texts and vocabularies, minibatches, synthetic regression, digit sums.

This room owns positions and order: which examples a minibatch holds and when it comes.
"""
