"""Marks for tests of ``d2l`` on some of the frameworks, where these are installed."""

import pytest

from installed import INSTALLED


def on(*names: str) -> pytest.MarkDecorator:
    """Run a test with the ``d2l`` of these frameworks only."""
    here = [name for name in names if name in INSTALLED]
    return pytest.mark.parametrize("d2l", here, indirect=True)


eager = on("torch", "tensorflow", "mxnet")
"""Frameworks whose models hold values, so that a reader's class can; in JAX Flax makes them."""
