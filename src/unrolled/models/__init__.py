"""Models as far as no framework is needed: parameters, what to compute, what to minimise.

``unrolled/<framework>/`` gives each the framework's own parameters and module type.
"""
