"""What a module written by hand gave out and takes in again: its state, and maybe more."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from unrolled.torch.fused import FUSED


@dataclass(frozen=True)
class Carried:
    """An output that came back.

    Attributes:
        place: among the outputs, from 1.
        old: as it was given out, by the call before.
        given: as it was taken in.
        new: what is given out now in its place.
    """

    place: int
    old: torch.Tensor
    given: torch.Tensor
    new: torch.Tensor


def what_came_back(
    before: Iterable[Any], inputs: Iterable[torch.Tensor], outputs: Iterable[torch.Tensor]
) -> Iterator[Carried]:
    """The outputs that a call was given from the call before, and has replaced by new ones.

    Args:
        before: weak references to the outputs of the call before.
        inputs: tensors in the arguments of this call.
        outputs: in what it returned.
    """
    by_memory = {tensor.data_ptr(): tensor for tensor in inputs}
    for place, (pointer, new) in enumerate(zip(before, outputs, strict=False), 1):
        old = pointer()
        if old is None or not (old.requires_grad and new.requires_grad):
            continue
        at = old.data_ptr()
        given = by_memory.get(at)
        if given is None or not given.shape == old.shape == new.shape:
            continue
        if new.data_ptr() != at:  # else it is only handed through
            yield Carried(place, old, given, new)


def is_of_layers(state: torch.Tensor, module: torch.nn.Module) -> bool:
    """Whether a state is one of a fused layer in a module, ``(layers, B, H)``, or made of one."""
    return state.dim() == 3 and any(isinstance(part, FUSED) for part in module.modules())


def batch_axis(state: torch.Tensor, inputs: Iterable[torch.Tensor]) -> tuple[int, bool]:
    """Which axis of a state is the batch's, and whether that is certain.

    It is the first, but for states of several layers, ``(layers, B, H)``: there it is the one
    that is as long as that of the input, ``(B, D)``.

    Example:
        >>> batch_axis(torch.ones(2, 6, 4), [torch.ones(6, 3)])
        (1, True)
    """
    x = next(iter(inputs), None)
    if state.dim() != 3 or state.shape[:2] == (1, 1):
        return 0, True
    if x is None or x.dim() == 0:
        return 0, False
    alike = [axis for axis in (0, 1) if state.shape[axis] == x.shape[0]]
    if len(alike) != 1:
        return 0, False
    # a step of one's own in an axis of its own: (1, B, D) beside (1, B, H)
    step = x.dim() == 3 and x.shape[:2] == state.shape[:2] and x.shape[0] == 1
    return alike[0], not step
