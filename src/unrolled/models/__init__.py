"""Models without a framework: parameters, forward pass, loss; generating text."""
