"""Computations on a CPU as lists of their operations."""
