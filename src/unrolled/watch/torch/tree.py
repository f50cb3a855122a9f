"""Find the tensors in nested tuples, lists and dicts, with their paths; `part_at` a path."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of floating numbers in nested tuples, lists and dicts."""
    return (tensor for _, tensor in named_tensors(value))


def named_tensors(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The same with their paths: numbers and keys, joined by dots."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield path, value
    elif isinstance(value, (Mapping, tuple, list)):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            yield from named_tensors(part, f"{path}.{key}" if path else str(key))


def part_at(value: Any, path: str) -> Any:
    """The part of nested tuples, lists and mappings at a path; None if there is none."""
    for key in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, (tuple, list)) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value
