"""Engines for recurrences as one differentiable operation of a framework."""
