"""The recurrences of a watched model, however they are written, and their gradients.

Three kinds are seen, all by hooks on modules: fused layers (`nn.LSTM`), whose inner
gradients are recomputed; PyTorch's cells (`nn.LSTMCell`) in a loop of one's own; and modules
written by hand that take in what they gave out the call before. Calls that hand their state
to the next make one sequence.
"""

from typing import Any
from weakref import WeakValueDictionary, ref

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from unrolled.telemetry.assembling import again
from unrolled.torch import fused
from unrolled.torch.curves import Arrivals, CellCall, Curves, FusedCall, of_cells, of_layer
from unrolled.torch.direction import Layer
from unrolled.torch.own_cells import OwnCells, OwnStates
from unrolled.torch.recompute import recompute
from unrolled.torch.sequence import Ends, Sequence
from unrolled.torch.waiting import Waiting

MOST_SEQUENCES = 4
"""Sequences of a module that are reported of one step: a model may read several."""

SEQUENCES = "a call goes on with another if it begins with the very state that ended that one"

REENTRANT = "with torch.utils.checkpoint(use_reentrant=False) all of it is seen"

PARAMETRIZED = "not traced: its weights are parametrized, to read them is to compute them anew"

OVERWRITTEN = "states were written to after they were given out: saturation is that of the others"

FEW = 64
"""States whose owners are remembered before it is looked which of them are still there."""


class Recurrences:
    """The sequences of the running step, by module.

    Args:
        notes: where to say what cannot be traced and why.
        states: where modules written by hand take in their states.
        all_seen: whether all calls of the modules are; else every first state other than
            zeros is taken for one that is carried on.
    """

    def __init__(
        self, notes: dict[str, str], states: OwnStates | None = None, all_seen: bool = True
    ) -> None:
        self.notes, self.all_seen = notes, all_seen
        self.found: dict[str, Curves] = {}
        self.batch = self.begun = 0
        self.own = OwnCells(self, states)
        self.passes = 0
        self.on_leaves: list[Any] = []
        self.ends = Ends(MOST_SEQUENCES)
        self.begin_batch()

    def begin_batch(self) -> None:
        """Forget the calls; what was found of them stays until other calls replace it."""
        while self.on_leaves:
            self.on_leaves.pop().remove()
        # a sequence lives as long as the graph that may bring gradients to it: forward passes
        # that nothing comes of (a validation without no_grad) leave nothing here
        self.by_end: WeakValueDictionary[tuple[str, int], Sequence] = WeakValueDictionary()
        self.by_name: WeakValueDictionary[str, Sequence] = WeakValueDictionary()
        self.waiting = Waiting()
        self.count: dict[str, int] = {}
        self.owned: dict[int, tuple[Any, str]] = {}
        self.most_owned = FEW
        self.rng: dict[str, Any] = {}
        self.went_back = False
        self.batch += 1

    def clear(self) -> None:
        """Forget everything: the step is over."""
        self.begin_batch()
        self.found = {}
        self.own.latest.clear()

    def throw_away(self, running: int) -> None:
        """Earlier backward passes do not count; one may be ``running`` that does."""
        self.found, self.count = {}, {}
        self.batch += 1  # gradients that they left at the same graph are forgotten, too
        for sequence in self.waiting.get(running, ()):
            sequence.begin_anew(self.batch)

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
        sequence = self._sequence(name, first, entry)
        self._own(name, *ends)
        for key, tensor in (("Y", rows), *enumerate(ends)):
            self._listen(tensor, key, entry, sequence)

    def after_cell(self, name: str, cell: Any, args: Any, kwargs: Any, output: Any) -> None:
        """One of PyTorch's cells has run."""
        if is_parametrized(cell):
            self.notes[name] = PARAMETRIZED
            return
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
        sequence = self._sequence(name, h_old, entry)
        self._own(name, *(h,) if c is None else (h, c))
        self._listen(h, "h", entry, sequence)
        if c is not None:
            self._listen(c, "c", entry, sequence)

    def add_state(
        self, name: str, h: torch.Tensor, before: torch.Tensor | None, axis: int = 0
    ) -> None:
        """One more state of a recurrence that nothing else is known of.

        Args:
            name: of the recurrence.
            h: the state.
            before: the state that it was computed from; None for a first one.
            axis: which is the batch's.
        """
        if not h.requires_grad:
            return
        entry = CellCall(None if before is None else before.detach(), h.detach(), axis=axis)
        sequence = self._sequence(name, before, entry)
        self._own(name, h)
        self._listen(h, "h", entry, sequence)

    def _own(self, name: str, *states: torch.Tensor) -> None:
        """Remember whose states these are; what shares their memory is the same state."""
        for state in states:
            self.owned[state.data_ptr()] = (ref(state), name)
        if len(self.owned) > self.most_owned:
            left = {at: known for at, known in self.owned.items() if known[0]() is not None}
            self.owned, self.most_owned = left, 2 * len(left) + FEW

    def owner(self, state: torch.Tensor) -> str | None:
        """The name of the recurrence that a state is known to belong to."""
        known, name = self.owned.get(state.data_ptr(), (None, ""))
        # memory that was let go may hold another tensor by now
        return None if known is None or known() is None else name

    def last_state(self, name: str) -> torch.Tensor | None:
        """Where the last sequence of this name stands, if no gradient has arrived since."""
        last = None if self.went_back else self.by_name.get(name)
        return None if last is None else last.last.end

    def _sequence(self, name: str, state: torch.Tensor | None, entry: Any) -> Sequence:
        """Add a call with this first state to the sequence that it continues, or to a new one."""
        found = self._continued(name, state)
        if self.went_back:
            if found is not None and state is not None and state.grad_fn is not None:
                self.went_back = False  # a backward pass at every step, through all steps before
            else:
                self._next_batch(name)
                found = None
        cut = state is not None and state.grad_fn is None and not isinstance(state, nn.Parameter)
        if found is None:
            self.begun += 1
            found = Sequence(name, self.batch, self.begun)
            found.carried = state is not None and cut and self._is_carried(name, state)
        else:
            self.by_end.pop((name, found.last.end.data_ptr()), None)
            # at a tap it is not known what became of the state in between
            cut = cut and state is not found.last.end
        found.add(entry, cut)
        self.ends.add(name, found.place, entry.end)
        self.by_end[name, entry.end.data_ptr()] = self.by_name[name] = found
        return found

    def _continued(self, name: str, state: torch.Tensor | None) -> Sequence | None:
        """The sequence that a call with this first state continues."""
        if state is None:
            return None
        found = self.by_end.get((name, state.data_ptr()))
        return found if found and found.goes_on(state, state.data_ptr()) else None

    def _next_batch(self, name: str) -> None:
        if self.count.get(name) and torch._C._current_graph_task_id() != -1:
            self.notes[name] = "only the piece that was recomputed last: " + REENTRANT
        self.begin_batch()

    def _is_carried(self, name: str, state: torch.Tensor) -> bool:
        """Whether a sequence goes on with an earlier one; zeros are a start."""
        return (not self.all_seen or self.ends.has(name, state)) and bool(state.any())

    def is_end(self, name: str, state: torch.Tensor) -> bool:
        """Whether a sequence of this name, begun earlier or running, has ended in this state."""
        return self._continued(name, state) is not None or self._is_carried(name, state)

    def after_unseen(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """PyTorch's layer or cell has run in a step that is not recorded, the next may be."""
        last = output[1] if isinstance(module, fused.FUSED) else output
        self.has_ended(name, last[0] if isinstance(last, tuple) else last)

    def has_ended(self, name: str, h: torch.Tensor) -> None:
        """A sequence that is not looked at has come to this state."""
        self.begun += 1
        self.ends.add(name, self.begun, h.detach())

    def _listen(self, tensor: torch.Tensor, key: Any, entry: Arrivals, sequence: Sequence) -> None:
        """Collect what arrives at a tensor, as its operation takes it.

        A hook of the operation, not of the tensor: the person's own hooks on the tensor may
        change the gradient, and come after ours.
        """
        if not tensor.requires_grad:
            return
        place, node = tensor.output_nr, tensor.grad_fn

        def hook(gradients: tuple[torch.Tensor | None, ...]) -> None:
            gradient = gradients[place]
            if gradient is not None:  # nothing of the loss depends on it
                self._arrive(gradient, key, entry, sequence)

        entry.listeners.append(ref(hook))
        if node is None:  # a parameter that is handed on as a state, and outlives the step
            self.on_leaves.append(tensor.register_hook(lambda gradient: hook((gradient,))))  # type: ignore[no-untyped-call]
        else:
            node.register_prehook(hook)

    def _arrive(
        self, gradient: torch.Tensor, key: Any, entry: Arrivals, sequence: Sequence
    ) -> None:
        running = self.waiting.arrive(sequence)
        if sequence.batch != self.batch:
            sequence.begin_anew(self.batch)
        entry.arrive(running, key, gradient)
        if entry.second_order:
            self.notes[sequence.name] = "not traced: its gradient was differentiated again"

    def after_backward(self, which: int | None = None) -> None:
        """Gradients have arrived that count: find those through time.

        Args:
            which: the graph task whose gradients count; None for all that have arrived. Others
                (gradients of inputs alone, a pass that raised an error) are never counted.
        """
        self.went_back = True
        self.passes += 1
        for each, sequence in self.waiting.take(which):
            for call in sequence.calls:
                call.accept(each)
            if sequence.label is None:
                sequence.label = self._label(sequence.name)
            if sequence.label:
                self._look(sequence, sequence.label)

    def _label(self, name: str) -> str:
        """The name of one more sequence of a module; empty if there are too many."""
        number = self.count[name] = self.count.get(name, 0) + 1
        if number > MOST_SEQUENCES:
            self.notes[name] = f"the first {MOST_SEQUENCES} sequences of a step only: {SEQUENCES}"
            return ""
        return again(name, number)

    def _look(self, sequence: Sequence, label: str) -> None:
        try:
            self.found |= self._curves(sequence, label)
        except RuntimeError as error:  # what PyTorch says of tensors that cannot be looked at
            self.notes[label] = f"not traced: {type(error).__name__}: {error}"

    def _curves(self, sequence: Sequence, label: str) -> dict[str, Curves]:
        calls = sequence.calls
        if any(call.second_order for call in calls) or not calls[0].end.numel():
            return {}
        if isinstance(calls[0], FusedCall):
            return self._of_fused(sequence, label)
        written = {name for call in calls for name in call.overwritten()}
        if written - {"output"}:
            self.notes[label] = fused.written_to(sorted(written - {"output"}))
            return {}
        if written and not calls[0].inputs:
            self.notes[label] = OVERWRITTEN
        return {label: of_cells(calls, sequence.borders)}

    def _of_fused(self, sequence: Sequence, label: str) -> dict[str, Curves]:
        calls, layers = sequence.calls, list[list[Layer]]()
        for each in calls:
            ends = [each.gradients.get(i) for i in range(len(each.call.first))]
            fused.arrived(each.call, each.gradients.get("Y"), ends)
            found, note = recompute(each.call)
            if note:
                self.notes[label] = note
            layers.append(found)
        result = {}
        for parts in zip(*layers, strict=True):
            layer = calls[0].call.layer
            number = f".{parts[0].number}" if layer.num_layers > 1 else ""
            name = f"{label}{number}{'.backward' if parts[0].reverse else ''}"
            numbers, steps = of_layer(parts, calls[0].call.cell)
            borders = () if parts[0].reverse else sequence.borders
            result[name] = Curves(
                numbers, steps, parts[0].reverse, borders, calls[0].call.cell, parts[-1].gates
            )
        return result
