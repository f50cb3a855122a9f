"""Which output of a module written by hand is its state: what it gave out and takes in again.

A decoder may be given its last word, too, and a cell of the LSTM's kind has two states.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unrolled.torch.fused import FUSED

PRODUCTS = ("mm", "mv", "dot", "linear", "convolution", "attention")
"""In the names of operations that multiply by weights, or by another tensor's columns."""


@dataclass(frozen=True)
class Carried:
    """An output that came back.

    Attributes:
        place: among the outputs, from 1.
        old: as it was given out, by the call before.
        given: as it was taken in.
        new: what is given out now in its place.
        first: whether it came back in the first argument, where most modules take their inputs.
    """

    place: int
    old: torch.Tensor
    given: torch.Tensor
    new: torch.Tensor
    first: bool


def what_came_back(
    before: Iterable[Any],
    first: Iterable[torch.Tensor],
    rest: Iterable[torch.Tensor],
    outputs: Iterable[torch.Tensor],
) -> Iterator[Carried]:
    """The outputs that a call was given from the call before, and has replaced by new ones.

    Args:
        before: weak references to the outputs of the call before.
        first: tensors in the first argument of this call.
        rest: in its other arguments.
        outputs: in what it returned.
    """
    by_memory = [{tensor.data_ptr(): tensor for tensor in given} for given in (rest, first)]
    for place, (pointer, new) in enumerate(zip(before, outputs, strict=False), 1):
        old = pointer()
        if old is None or not (old.requires_grad and new.requires_grad):
            continue
        at = old.data_ptr()
        given = by_memory[0].get(at, by_memory[1].get(at))
        if given is None or not given.shape == old.shape == new.shape:
            continue
        if new.data_ptr() != at:  # else it is only handed through
            yield Carried(place, old, given, new, at not in by_memory[0])


def state_of(candidates: Sequence[Carried]) -> tuple[Carried, bool]:
    """The hidden state among the outputs that came back, and whether it is the only one.

    What another is made of without weights is the memory behind it, as the LSTM's c behind h.
    What is made of another and comes back elsewhere is read out of it, as a decoder's last word.
    """
    hidden = [each for each in candidates if not any(_is_memory(each, of) for of in candidates)]
    states = [each for each in hidden if not any(_is_read_out(each, of) for of in hidden)]
    later = [each for each in states if not each.first]
    return (later or states or hidden or candidates)[0], len(hidden) == 1


def _is_memory(one: Carried, of: Carried) -> bool:
    return one.first == of.first and _is_made(of, one, by_weights=False)


def _is_read_out(one: Carried, of: Carried) -> bool:
    return one.first != of.first and _is_made(one, of, by_weights=True)


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


def _is_made(later: Carried, earlier: Carried, by_weights: bool) -> bool:
    """Whether one output was computed from the other, in any way or only without weights."""
    goal, node = _node(earlier.new), _node(later.new)
    if goal is None or node is None or goal is node:
        return False
    born = goal._sequence_nr()
    seen, waiting = {node}, [node]
    while waiting:
        node = waiting.pop()
        if node is goal:
            return True
        if not by_weights and any(part in node.name().lower() for part in PRODUCTS):
            continue
        for following, _ in node.next_functions:
            # what was computed before the goal was not computed from it
            if following is not None and following not in seen and following._sequence_nr() >= born:
                seen.add(following)
                waiting.append(following)
    return False


def _node(tensor: torch.Tensor) -> Any:
    """The operation that computed a tensor, or what it is a view of."""
    return tensor.grad_fn if tensor._base is None else tensor._base.grad_fn
