"""The training design: module, trainer, truncation, records.

Each class is written once here, free of any framework; ``unrolled/<framework>/``
joins it with the framework's own types.
"""
