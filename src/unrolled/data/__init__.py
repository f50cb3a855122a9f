"""Data: texts and vocabularies, ways to cut minibatches, synthetic regression.

This room owns positions and order: which examples a minibatch holds and when it comes.
"""
