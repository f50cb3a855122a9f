"""`Recurrences` collects the gradients at the hidden states of a model's recurrent modules."""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet, WeakValueDictionary, ref

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.telemetry.build_records import again
from unrolled.torch.through_time import fused_call
from unrolled.torch.through_time.curves import Curves, of_fused
from unrolled.torch.through_time.sequences import PendingBackwards, Sequence, TracedCall

MOST_SEQUENCES = 4
"""Sequences of a module that are reported of one step: a model may read several."""

SEQUENCES = "a call goes on with another if it begins with the very state that ended that one"

REENTRANT = "with torch.utils.checkpoint(use_reentrant=False) all of it is seen"


class Recurrences:
    """The sequences of the running step, by module.

    ``notes`` say what cannot be traced and why. ``sees_all``: calls of every step are seen, or that
    they have ended (`has_ended`); else a first state that is not zero is taken for one that was
    carried on. ``curves_of_fused`` computes the curves of fused layers, see `of_fused`.
    """

    def __init__(
        self,
        notes: dict[str, str],
        sees_all: bool = True,
        curves_of_fused: Callable[..., dict[str, Curves]] = of_fused,
    ) -> None:
        self.notes, self.sees_all = notes, sees_all
        self.curves_of_fused = curves_of_fused
        self.found: dict[str, Curves] = {}  # of the step's sequences so far
        self.batch = self.begun = 0
        # by module the memory of states in which calls have ended, as long as it is in use: a
        # later sequence that begins with one of them was carried on
        self.ends: dict[str, WeakSet[Any]] = {}
        self.begin_batch()

    def begin_batch(self) -> None:
        """Forget the calls; what was found of them stays until other calls replace it."""
        # a sequence lives as long as the graph that may bring gradients to it: forward passes
        # that nothing comes of (a validation without no_grad) leave nothing here
        self.by_end: WeakValueDictionary[tuple[str, int], Sequence] = WeakValueDictionary()
        self.by_name: WeakValueDictionary[str, Sequence] = WeakValueDictionary()
        self.waiting = PendingBackwards()
        self.count: dict[str, int] = {}
        self.rng: dict[str, torch.Tensor] = {}
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

    def before_fused(self, name: str, layer: Any, args: Any, kwargs: Any) -> None:
        """A fused layer is about to run: remember what its dropout will draw from."""
        if fused_call.draws(layer):
            self.rng[name] = torch.get_rng_state()

    def after_fused(self, name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A fused layer has run."""
        if why := fused_call.why_not(layer):
            self.notes[name] = why
            return
        inputs = args[0] if args else kwargs["input"]
        state = args[1] if len(args) > 1 else kwargs.get("hx")
        Y, last = output
        rows = Y.data if isinstance(Y, PackedSequence) else Y
        rng = self.rng.pop(name, None)
        if not rows.requires_grad:
            return
        call = fused_call.begin(layer, inputs, state, output, rng)
        tensors: dict[Any, torch.Tensor] = {"Y": rows}
        tensors |= enumerate(last if isinstance(last, tuple) else (last,))
        first = state[0] if isinstance(state, tuple) else state
        self.add(name, first, call, tensors, self.curves_of_fused)

    def has_ended(self, name: str, h: torch.Tensor) -> None:
        """A call has come to this state."""
        self.ends.setdefault(name, WeakSet()).add(h.untyped_storage())

    def last_state(self, name: str) -> torch.Tensor | None:
        """State that ended the last sequence of this name, if no gradient has arrived since."""
        last = None if self.went_back else self.by_name.get(name)
        return None if last is None else last.last.end

    def add(
        self,
        name: str,
        state: torch.Tensor | None,
        call: TracedCall,
        tensors: dict[Any, torch.Tensor],
        curves_of: Callable[..., Any],
    ) -> None:
        """Add a call to the sequence that its first state (None: zeros) continues, or a new one.

        ``tensors`` are those that it returned, by the keys of its gradients.
        """
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
            carried = state is not None and cut and self._is_carried(name, state)
            found = Sequence(name, curves_of, self.batch, self.begun, carried)
        else:
            self.by_end.pop((name, found.last.end.data_ptr()), None)
            # at a tap it is not known what became of the state in between
            cut = cut and state is not found.last.end
        found.add(call, cut)
        self.has_ended(name, call.end)
        self.by_end[name, call.end.data_ptr()] = self.by_name[name] = found
        for key, tensor in tensors.items():
            if tensor.grad_fn is not None:
                self._listen(tensor, key, call, found)

    def _is_carried(self, name: str, state: torch.Tensor) -> bool:
        """Whether a first state is one in which an earlier call has ended, and was not zeroed."""
        may_be = not self.sees_all or state.untyped_storage() in self.ends.get(name, ())
        return may_be and bool(state.any())

    def _listen(self, tensor: torch.Tensor, key: Any, call: TracedCall, sequence: Sequence) -> None:
        """Collect what arrives at a tensor, as its operation takes it.

        A hook of the operation, not of the tensor: the person's own hooks on the tensor may
        change the gradient, and come after ours.
        """
        place = tensor.output_nr

        def hook(gradients: tuple[torch.Tensor | None, ...]) -> None:
            gradient = gradients[place]
            if gradient is None:  # nothing of the loss depends on it
                return
            self.waiting.arrive(sequence, (call, key, gradient.detach()))
            if gradient.requires_grad:
                call.second_order = True
                self.notes[sequence.name] = "not traced: its gradient was differentiated again"

        call.listeners.append(ref(hook))
        tensor.grad_fn.register_prehook(hook)  # type: ignore[union-attr]

    def after_backward(self, which: int | None = None) -> None:
        """Gradients of a graph task (None: of all) count: find those through time."""
        self.went_back = True
        for sequence, arrived in self.waiting.take(which):
            if sequence.batch != self.batch:
                sequence.begin_anew(self.batch)
            for call, key, gradient in arrived:
                call.add(key, gradient)
            if sequence.label is None:
                sequence.label = self._label(sequence.name)
            calls = sequence.calls
            known = sequence.label and calls[0].end.numel()
            if not known or any(call.second_order for call in calls):
                continue
            more = sequence.label, calls, sequence.truncation_points, self.notes
            try:
                self.found |= sequence.curves_of(*more)
            except RuntimeError as error:  # what PyTorch says of tensors that cannot be looked at
                self.notes[sequence.label] = f"not traced: {type(error).__name__}: {error}"

    def _label(self, name: str) -> str:
        """The name of one more sequence of a module; empty if there are too many."""
        number = self.count[name] = self.count.get(name, 0) + 1
        if number > MOST_SEQUENCES:
            self.notes[name] = f"the first {MOST_SEQUENCES} sequences of a step only: {SEQUENCES}"
            return ""
        return again(name, number)
