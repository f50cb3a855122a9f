"""`Recurrences` collects the gradients at the hidden states of a watched model.

Three kinds are seen, by hooks on modules: fused layers (`nn.LSTM`), whose inner gradients are
recomputed; PyTorch's cells (`nn.LSTMCell`); and states that a person has named or tapped. Calls
that hand their state to the next make one sequence.
"""

from typing import Any
from weakref import WeakValueDictionary, ref

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from unrolled.telemetry.build_records import again
from unrolled.torch import curves, fused
from unrolled.torch.curves import Curves
from unrolled.watch.torch.calls import Arrivals, CellCall, FusedCall, of_cells, of_states
from unrolled.watch.torch.pending_backwards import PendingBackwards
from unrolled.watch.torch.state_chain import Ends, Sequence

MOST_SEQUENCES = 4
"""Sequences of a module that are reported of one step: a model may read several."""

SEQUENCES = "a call goes on with another if it begins with the very state that ended that one"

REENTRANT = "with torch.utils.checkpoint(use_reentrant=False) all of it is seen"

PARAMETRIZED = "not traced: its weights are parametrized, to read them is to compute them anew"

OVERWRITTEN = "states were written to after they were given out: saturation is that of the others"


class Recurrences:
    """The sequences of the running step, by module.

    Args:
        notes: where to say what cannot be traced and why.

    Attributes:
        found: the curves of the step's sequences so far.
        passes: backward passes so far.
    """

    def __init__(self, notes: dict[str, str]) -> None:
        self.notes = notes
        self.found: dict[str, Curves] = {}
        self.batch = self.begun = self.passes = 0
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
        self.waiting = PendingBackwards()
        self.count: dict[str, int] = {}
        self.rng: dict[str, Any] = {}
        self.went_back = False
        self.batch += 1

    def clear(self) -> None:
        """Forget everything: the step is over."""
        self.begin_batch()
        self.found = {}

    def throw_away(self) -> None:
        """Earlier backward passes do not count."""
        self.found, self.count = {}, {}
        self.batch += 1  # gradients that they left at the same graph are forgotten, too

    def before_fused(self, name: str, layer: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        """A fused layer is about to run: remember what its dropout will draw from."""
        if fused.draws(layer):
            self.rng[name] = fused.rng_state(layer._flat_weights[0].device)

    def after_fused(self, name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A fused layer has run."""
        if why := fused.why_not(layer):
            self.notes[name] = why
            return
        found = fused.of_hook(layer, args, kwargs, output, self.rng.pop(name, None))
        if found is None:
            return
        call, first, tensors = found
        entry = FusedCall(call, tensors[0].detach())
        sequence = self._sequence(name, first, entry)
        for key, tensor in tensors.items():
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
        parts = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        weights = [weight.detach() for weight in parts if weight is not None]
        old = [None if part is None else part.detach() for part in (h_old, c_old)]
        # one operation with two results, or h computed from c, which then gets h's gradient
        apart = c is not None and c.grad_fn is not h.grad_fn
        entry = CellCall(old[0], h.detach(), inputs=(cell, x.detach(), old[1], weights, apart))
        sequence = self._sequence(name, h_old, entry)
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
        self._listen(h, "h", entry, self._sequence(name, before, entry))

    def after_unseen(self, name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """PyTorch's layer or cell has run in a step that is not recorded, the next may be."""
        last = output[1] if isinstance(module, fused.FUSED) else output
        self.has_ended(name, last[0] if isinstance(last, tuple) else last)

    def has_ended(self, name: str, h: torch.Tensor) -> None:
        """A sequence that is not looked at has come to this state."""
        self.begun += 1
        self.ends.add(name, self.begun, h.detach())

    def last_state(self, name: str) -> torch.Tensor | None:
        """Where the last sequence of this name stands, if no gradient has arrived since."""
        last = None if self.went_back else self.by_name.get(name)
        return None if last is None else last.last.end

    def _sequence(self, name: str, state: torch.Tensor | None, entry: Any) -> Sequence:
        """Add a call with this first state to the sequence that it continues, or to a new one."""
        found = None if state is None else self.by_end.get((name, state.data_ptr()))
        if found is not None and state is not None and not found.goes_on(state):
            found = None
        if self.went_back:
            if found is not None and state is not None and state.grad_fn is not None:
                self.went_back = False  # a backward pass at every step, through all steps before
            else:
                if self.count.get(name) and torch._C._current_graph_task_id() != -1:
                    self.notes[name] = "only the piece that was recomputed last: " + REENTRANT
                self.begin_batch()
                found = None
        cut = state is not None and state.grad_fn is None and not isinstance(state, nn.Parameter)
        if found is None:
            self.begun += 1
            found = Sequence(name, self.batch, self.begun)
            found.carried = state is not None and cut and self.ends.has(name, state)
        else:
            self.by_end.pop((name, found.last.end.data_ptr()), None)
            # at a tap it is not known what became of the state in between
            cut = cut and state is not found.last.end
        found.add(entry, cut)
        self.ends.add(name, found.place, entry.end)
        self.by_end[name, entry.end.data_ptr()] = self.by_name[name] = found
        return found

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
            if gradient is None:  # nothing of the loss depends on it
                return
            self.waiting.arrive(sequence, (entry, key, gradient.detach()))
            if gradient.requires_grad:
                entry.second_order = True
                self.notes[sequence.name] = "not traced: its gradient was differentiated again"

        entry.listeners.append(ref(hook))
        if node is None:  # a parameter that is handed on as a state, and outlives the step
            self.on_leaves.append(tensor.register_hook(lambda gradient: hook((gradient,))))  # type: ignore[no-untyped-call]
        else:
            node.register_prehook(hook)

    def after_backward(self, which: int | None) -> None:
        """Gradients have arrived that count: find those through time.

        Args:
            which: the graph task whose gradients count; None for all that have arrived. Others
                (gradients of inputs alone, a pass that raised an error) are never counted.
        """
        self.went_back = True
        self.passes += 1
        for sequence, arrived in self.waiting.take(which):
            if sequence.batch != self.batch:
                sequence.begin_anew(self.batch)
            for entry, key, gradient in arrived:
                entry.add(key, gradient)
            if sequence.label is None:
                sequence.label = self._label(sequence.name)
            if not sequence.label:
                continue
            try:
                self.found |= self._curves(sequence, sequence.label)
            except RuntimeError as error:  # what PyTorch says of tensors that cannot be looked at
                self.notes[sequence.label] = f"not traced: {type(error).__name__}: {error}"

    def _label(self, name: str) -> str:
        """The name of one more sequence of a module; empty if there are too many."""
        number = self.count[name] = self.count.get(name, 0) + 1
        if number > MOST_SEQUENCES:
            self.notes[name] = f"the first {MOST_SEQUENCES} sequences of a step only: {SEQUENCES}"
            return ""
        return again(name, number)

    def _curves(self, sequence: Sequence, label: str) -> dict[str, Curves]:
        calls, truncation_points = sequence.calls, sequence.truncation_points
        if any(call.second_order for call in calls) or not calls[0].end.numel():
            return {}
        if isinstance(calls[0], FusedCall):
            pairs = [(call.call, call.gradients) for call in calls]
            return curves.of_fused(label, pairs, truncation_points, self.notes)
        written = {name for call in calls for name in call.overwritten()}
        if written - {"output"}:
            self.notes[label] = fused.written_to(sorted(written - {"output"}))
            return {}
        if calls[0].inputs:
            return {label: of_cells(calls, truncation_points)}
        if written:
            self.notes[label] = OVERWRITTEN
        return {label: of_states(calls, truncation_points)}
