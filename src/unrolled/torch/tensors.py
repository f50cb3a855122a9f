"""The tensors that a call was given, or has returned, however they are nested."""

from collections.abc import Iterator
from typing import Any

import torch


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of floating numbers in nested tuples, lists and dicts.

    Example:
        >>> [t.shape[0] for t in tensors_in((torch.ones(1), [torch.ones(2)], {"a": None}))]
        [1, 2]
    """
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
