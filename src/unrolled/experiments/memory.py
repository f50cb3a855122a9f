"""Refuse a model that is larger than the machine's memory."""

import math
import os

from unrolled.errors import SettingError
from unrolled.models.layers import parameter_shapes


def check_memory(cell: str, num_layers: int, vocab_size: int, num_hiddens: int) -> None:
    """Make sure that the machine has room to train a language model.

    Args:
        cell: name in `unrolled.functional.recurrent.CELLS`.
        num_layers: recurrent layers.
        vocab_size: ``V``.
        num_hiddens: ``H``.

    Raises:
        SettingError: its weights, their gradients and the copy for a divergence, float32
            each, need more than there is: the system would end the program without a word.

    Example:
        >>> check_memory("rnn", 1, 28, 256)
    """
    one, two = (
        sum(map(math.prod, parameter_shapes(cell, layers, vocab_size, num_hiddens).values()))
        for layers in (1, 2)
    )
    needed = 3 * 4 * (one + (num_layers - 1) * (two - one))
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    if needed > there:
        raise SettingError(
            f"num_hiddens={num_hiddens:,} in num_layers={num_layers:,} with {vocab_size:,} kinds "
            f"of characters needs {needed / 2**30:,.0f} GiB to train, and this machine has "
            f"{there / 2**30:,.0f}; take fewer num_hiddens or num_layers"
        )
