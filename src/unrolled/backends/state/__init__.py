"""State of optimizers, buffers and random generators, read and restored exactly.

One module for each framework, as `unrolled.backends.protocol.StateFunctions` says;
`generators` is about NumPy's and Python's random numbers. What is kept is a *tree*: None, bool,
int, float, str, NumPy arrays, and lists, tuples and dicts of such.
"""
