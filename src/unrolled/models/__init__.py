"""Models without a framework: parameters, forward pass, loss; generating text.

``unrolled/<framework>/`` gives each the framework's own parameters and module type.
"""
