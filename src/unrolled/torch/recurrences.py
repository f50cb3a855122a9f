"""The recurrences of a watched model, however they are written, and their gradients.

Three kinds are seen, all by hooks on modules: fused layers (`nn.LSTM`), whose inner
gradients are recomputed; PyTorch's cells (`nn.LSTMCell`) in a loop of one's own; and modules
written by hand that take in what they gave out the call before. Calls that hand their state
to the next make one sequence.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch.nn.utils.rnn import PackedSequence

from unrolled.torch import fused
from unrolled.torch.curves import CellCall, Curves, FusedCall, of_cells, of_layer
from unrolled.torch.direction import Layer
from unrolled.torch.recompute import recompute

MOST_SEQUENCES = 4
"""Sequences of a module that are reported of one step: a model may read several."""


@dataclass
class Sequence:
    """Calls of one module, each beginning with the state in which the last one ended."""

    name: str
    calls: list[Any] = field(default_factory=list)
    borders: list[int] = field(default_factory=list)
    length: int = 0
    changed: bool = False

    def goes_on(self, state: torch.Tensor | None, mark: int | None) -> bool:
        """Whether a call that begins with this state continues the sequence."""
        end = self.calls[-1].end
        return (
            state is not None
            and mark == end.data_ptr()
            and state.shape == end.shape
            and not self.calls[-1].packed
        )


def take_gradient(of: Any, key: Any, sequence: Sequence) -> Callable[[torch.Tensor], None]:
    """A hook that adds what arrives at a tensor to ``of.gradients[key]``."""

    def hook(gradient: torch.Tensor) -> None:
        if gradient.requires_grad:  # create_graph: the loss reaches the weights another way too
            of.second_order = True
        before = of.gradients.get(key)
        gradient = gradient.detach()
        of.gradients[key] = gradient if before is None else before + gradient
        sequence.changed = True

    return hook


class Recurrences:
    """The sequences of the running step, by module.

    Args:
        notes: where to say what cannot be traced and why.
    """

    def __init__(self, notes: dict[str, str]) -> None:
        self.notes = notes
        self.found: dict[str, Curves] = {}
        self.begin_batch()

    def begin_batch(self) -> None:
        """Forget the calls; what was found of them stays until other calls replace it."""
        self.sequences: list[Sequence] = []
        self.tracked: dict[int, tuple[Any, str]] = {}
        self.latest: dict[str, list[Any]] = {}
        self.rng: dict[str, Any] = {}
        self.went_back = False

    def clear(self) -> None:
        """Forget everything: the step is over."""
        self.begin_batch()
        self.found = {}

    def before_fused(self, name: str, layer: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        """A fused layer is about to run: remember what its dropout will draw from."""
        if fused.draws(layer):
            self.rng[name] = fused.rng_state(layer._flat_weights[0].device)

    def after_fused(self, name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A fused layer has run."""
        if why := fused.why_not(layer):
            self.notes[name] = why
            return
        inputs = args[0] if args else kwargs["input"]
        state = args[1] if len(args) > 1 else kwargs.get("hx")
        Y, last = output
        rows = Y.data if isinstance(Y, PackedSequence) else Y
        if not rows.requires_grad:
            return
        ends = last if isinstance(last, tuple) else (last,)
        call = fused.begin(layer, inputs, state, output, self.rng.pop(name, None))
        first = state[0] if isinstance(state, tuple) else state
        entry = FusedCall(call, ends[0].detach(), isinstance(Y, PackedSequence))
        sequence = self._sequence(name, first, len(call.batch_sizes))
        sequence.calls.append(entry)
        for key, tensor in (("Y", rows), *enumerate(ends)):
            tensor.register_hook(take_gradient(entry, key, sequence))

    def after_cell(self, name: str, cell: Any, args: Any, kwargs: Any, output: Any) -> None:
        """One of PyTorch's cells has run."""
        x = args[0] if args else kwargs["input"]
        state = args[1] if len(args) > 1 else kwargs.get("hx")
        h, c = output if isinstance(output, tuple) else (output, None)
        h_old, c_old = state if isinstance(state, tuple) else (state, None)
        if not h.requires_grad:
            return
        weights = [
            weight.detach()
            for weight in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            if weight is not None
        ]
        old = [None if part is None else part.detach() for part in (h_old, c_old)]
        # one operation with two results, or h computed from c, which then gets h's gradient
        apart = c is not None and c.grad_fn is not h.grad_fn
        entry = CellCall(old[0], h.detach(), inputs=(cell, x.detach(), old[1], weights, apart))
        sequence = self._sequence(name, h_old, 1)
        sequence.calls.append(entry)
        self.tracked[id(h)] = (ref(h), name)
        h.register_hook(take_gradient(entry, "h", sequence))
        if c is not None:
            c.register_hook(take_gradient(entry, "c", sequence))

    def after_any(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A module of unknown kind has run: is its state what it gave out the call before?"""
        given = {tensor.data_ptr(): tensor for tensor in tensors_in((args, kwargs))}
        outputs = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
        before = [] if self.went_back else self.latest.get(name, [])
        for pointer, tensor in zip(before, outputs, strict=False):
            old = pointer()
            same = None if old is None else given.get(old.data_ptr())
            if same is None or not same.shape == old.shape == tensor.shape:
                continue
            known, owner = self.tracked.get(id(old), (None, name))
            if known is None or known() is not old:
                self.add_state(name, old, None)
            elif owner != name:
                return  # a module inside this one is seen already
            self.add_state(name, tensor, same)
            break
        self.latest[name] = [ref(tensor) for tensor in outputs]

    def add_state(self, name: str, h: torch.Tensor, before: torch.Tensor | None) -> None:
        """One more state of a recurrence that nothing else is known of."""
        if not h.requires_grad:
            return
        entry = CellCall(None if before is None else before.detach(), h.detach())
        sequence = self._sequence(name, before, 1)
        sequence.calls.append(entry)
        self.tracked[id(h)] = (ref(h), name)
        h.register_hook(take_gradient(entry, "h", sequence))  # type: ignore[no-untyped-call]

    def _sequence(self, name: str, state: torch.Tensor | None, length: int) -> Sequence:
        """The sequence that a call with this first state continues, or a new one."""
        if self.went_back:  # the next micro-batch has begun
            self.begin_batch()
        mark = None if state is None else state.data_ptr()
        mine = [s for s in self.sequences if s.name.split("#")[0] == name]
        found = next((s for s in reversed(mine) if s.goes_on(state, mark)), None)
        cut = state is not None and not state.requires_grad
        if found is None:
            found = Sequence(name if not mine else f"{name}#{len(mine) + 1}")
            if len(mine) < MOST_SEQUENCES:
                self.sequences.append(found)
            cut = (
                state is not None and cut and bool(state.any())
            )  # a state of zeros is a start, not a border
        if cut:
            found.borders.append(found.length)
        found.length += length
        return found

    def after_backward(self) -> None:
        """Gradients have arrived: find those through time."""
        self.went_back = True
        for sequence in self.sequences:
            if sequence.changed:
                sequence.changed = False
                self.found |= self._curves(sequence)

    def _curves(self, sequence: Sequence) -> dict[str, Curves]:
        calls = sequence.calls
        if any(call.second_order for call in calls):
            self.notes[sequence.name] = "not traced: its gradient was differentiated again"
            return {}
        if isinstance(calls[0], FusedCall):
            return self._of_fused(sequence, calls)
        return {sequence.name: of_cells(calls, tuple(sequence.borders))}

    def _of_fused(self, sequence: Sequence, calls: list[FusedCall]) -> dict[str, Curves]:
        layers: list[list[Layer]] = []
        for each in calls:
            ends = [each.gradients.get(i) for i in range(len(each.call.first))]
            fused.arrived(each.call, each.gradients.get("Y"), ends)
            found, note = recompute(each.call)
            if note:
                self.notes[sequence.name] = note
            layers.append(found)
        result = {}
        for parts in zip(*layers, strict=True):
            layer = calls[0].call.layer
            number = f".{parts[0].number}" if layer.num_layers > 1 else ""
            name = f"{sequence.name}{number}{'.backward' if parts[0].reverse else ''}"
            numbers, steps = of_layer(parts, calls[0].call.cell)
            borders = () if parts[0].reverse else tuple(sequence.borders)
            result[name] = Curves(numbers, steps, parts[0].reverse, borders)
        return result


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
