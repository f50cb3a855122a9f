"""`StepEvents` hooks a model and its optimizers, and records every complete step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unrolled.backends import torch as backend
from unrolled.errors import SettingError
from unrolled.torch.hooks import Hooks, all_steps, is_recording, weakly
from unrolled.torch.parameter_names import named_parts
from unrolled.watch.record_store import RecordStore, Sink
from unrolled.watch.torch.build_records import assemble
from unrolled.watch.torch.data_updates import UNTOLD as UNTOLD_MOVES
from unrolled.watch.torch.data_updates import DataUpdates
from unrolled.watch.torch.forward_trace import ForwardTrace
from unrolled.watch.torch.loss_scale import UNTOLD, LossScale
from unrolled.watch.torch.module_hooks import ModuleHooks
from unrolled.watch.torch.named_states import NamedStates, States, check_states
from unrolled.watch.torch.optimizer_steps import Named, Step, has_closure, learning_rates
from unrolled.watch.torch.recurrences import Recurrences
from unrolled.watch.torch.running_step import RunningStep
from unrolled.watch.torch.step_facts import StepFacts
from unrolled.watch.torch.tracked_parameters import TrackedParameters

PATIENCE = 100
"""Passes without a step before a note says what a step is."""

NO_STEP = (
    f"{PATIENCE} backward passes, and no step of an optimizer that holds the model's parameters: "
    "records are made at steps. Where you move the weights yourself, call watched.step() after it"
)

NO_BACKWARD = (
    f"{PATIENCE} forward passes, and no backward pass that left gradients in the model's "
    "parameters: gradients from torch.func are not seen, those from torch.autograd.grad if an "
    "optimizer steps with them"
)

UNSEEN = "no pass was seen to bring their first gradients: norms before clipping may be missing"


class StepEvents(RecordStore):
    """Hooks a model, and makes a record of every step that is complete.

    Passes of the model, gradients that arrive and steps of optimizers call it, in that order.
    Its arguments are those of `unrolled.watch.torch`.
    """

    def __init__(
        self,
        model: nn.Module,
        every: int,
        sink: Sink | None,
        out: str | Path | None,
        keep: int,
        through_time: bool,
        clips_at: float | None,
        scaler: Any,
        states: States | None,
        overwrite: bool,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(f"watch takes a torch.nn.Module; it was given {type(model)}")
        if every < 1:
            raise SettingError(f"every is {every}; it must be 1 or more")
        settings = {"model": type(model).__name__, "every": every, "clips_at": clips_at}
        self.scaling, named = LossScale(scaler), check_states(states, model)
        super().__init__(sink, out, keep, "torch", backend, settings, overwrite)
        self.model, self.every, self.clips_at = model, every, clips_at
        self.steps = self.skipped = self.calls = 0
        self.current, self.running, self.data_updates = Step(), RunningStep(), DataUpdates()
        self.facts, self.forward_trace = StepFacts(), ForwardTrace()
        self.recurrences = Recurrences(self.notes)
        self.hooks = Hooks()
        # modules' hooks keep this watch; where the model takes none, those of parameters have to
        scripted = isinstance(model, torch.jit.ScriptModule)
        on_gradient = self._on_gradient if scripted else weakly(self._on_gradient)
        self.tracked = TrackedParameters(self.hooks, on_gradient)
        self.backward_pass = -1
        self.by_hand = False
        self.optimized = False
        seen = self.recurrences if through_time else None
        self.module_hooks = ModuleHooks(
            self.hooks,
            self._when_seen,
            seen,
            NamedStates(named, self.recurrences),
            self._after_leaf,
            self.notes,
        )
        try:
            self._hook_root()
            self._hook_model()
        except BaseException:
            self.hooks.remove()  # hooks of a watch that never came to be would fail
            raise
        all_steps().add(self)

    def settle(self) -> None:
        """Finish a step of which only some parameters have moved, by an optimizer of those."""
        if not self.closed and self.running.optimizer is None and self.current.stepped:
            self._complete()

    @property
    def parameters(self) -> Named:
        """Those of the model that are trained, by name."""
        return self.tracked.parameters

    def close(self) -> None:
        super().close()
        all_steps().remove(self)
        if self.hooks.handles:
            self.hooks.remove()
            self.recurrences.clear()
            self.recurrences, self.forward_trace = Recurrences(self.notes), ForwardTrace()
            self.current, self.running, self.data_updates = Step(), RunningStep(), DataUpdates()

    def _hook_root(self) -> None:
        if not isinstance(self.model, torch.jit.ScriptModule):
            self.hooks.after(self.model, self._when_seen(self._after_root, "the model"))

    def _hook_model(self) -> None:
        """Hook what has no hooks yet: a model may get new layers and weights at any time."""
        modules, parameters = named_parts(self.model)
        for name, module in modules:
            self.module_hooks.add(name, module)
        self.tracked.take(parameters)

    def _take_new(self, look: bool = False) -> list[str]:
        """Names of parameters that are trained from now on.

        Args:
            look: for new modules and parameters too, not just for those that were frozen.
        """
        if not (look or self.tracked.have_changed()):
            return []
        before = {id(p) for p in self.parameters.values()}
        self._hook_model()
        return [name for name, p in self.parameters.items() if id(p) not in before]

    def _after_root(self, *given: Any) -> None:
        self.calls += 1
        if self.calls == PATIENCE and not (self.steps or self.current.since):
            self.note("steps", NO_BACKWARD)
        self._take_new()
        self.forward_trace.after_root(*given)

    def _after_leaf(self, name: str, *given: Any) -> None:
        self.facts.ran.add(name)
        self.scaling.after_leaf(given[0], given[3])
        self.forward_trace.after_leaf(name, *given)

    def _when_seen(
        self, seen: Callable[..., None], name: str, unseen: Callable[..., None] | None = None
    ) -> Callable[..., None]:
        """A hook that works on recorded steps, and not in the middle of compiled code.

        Args:
            seen: what to call.
            name: of the module.
            unseen: what to call on other steps, and in inference.
        """

        def hook(*given: Any) -> None:
            function = seen if not is_recording() and self._sees() else unseen
            if function is None or is_recording() or self.closed:
                return
            if backend.in_transform():
                self.notes["torch.func"] = "what runs inside its transforms is not looked at"
                return
            try:
                function(name, *given)
            except RuntimeError as error:
                # what PyTorch says of tensors that cannot be looked at: the training must go on
                self.notes[name] = f"not traced: {type(error).__name__}: {error}"

        return hook

    def _logs(self) -> bool:
        return not self.closed and self.steps % self.every == 0

    def _sees(self) -> bool:
        """Whether a forward pass that runs now belongs to a step to be recorded."""
        if self.closed or not torch.is_grad_enabled():
            return False
        self._look_back()
        return self._logs()

    def _look_back(self) -> None:
        """A new pass begins: the step before may have failed, or be complete as it is."""
        if self.running.has_failed():
            self._end_failed()
        self.settle()

    def _look_for_cleared(self, arrived: nn.Parameter) -> None:
        """A backward pass has brought its first gradient: find out if those before were cleared.

        Args:
            arrived: the parameter that it was added to.
        """
        if self.data_updates.have_come(self.parameters):
            self.tell("steps", UNTOLD_MOVES)
        if self.current.cleared(self.parameters, arrived):
            told, self.current = self.current.told, self.current.anew()
            self._throw_away(told)

    def _throw_away(self, told: int) -> None:
        """What the backward passes so far have brought was cleared, and no step made of it."""
        self.forward_trace.forget(told)
        self.recurrences.throw_away()

    def _on_gradient(self, parameter: nn.Parameter) -> None:
        """A parameter's gradient has been added to: a backward pass is running."""
        if self.closed:
            return
        running = torch._C._current_graph_task_id()
        if running != self.backward_pass:  # its first gradient
            self.backward_pass = running
            self._look_back()
            self._look_for_cleared(parameter)
            self.facts.arrived(self.tracked.names.get(id(parameter)), parameter)
            torch.autograd.Variable._execution_engine.queue_callback(self._after_backward)
        name = self.tracked.names.get(id(parameter))
        if name is not None:  # else it is unfrozen since, which is seen when the pass is over
            self.current.touched(name)

    @torch.no_grad()
    def _after_backward(self) -> None:
        finished, self.backward_pass = self.backward_pass, -1
        if self.closed:
            return
        for name in self._take_new():
            if self.parameters[name].grad is not None:  # by a pass through a part of the model
                self.current.touched(name)
        self.current.went_back(self.parameters)
        if self.current.since == PATIENCE and not self.steps and "steps" not in self.notes:
            self.note("steps", NO_STEP)
        fresh = self._fresh()
        if not self.steps and not self.optimized:
            self.data_updates.after_backward(fresh)
        if self._logs():
            self.current.take_gradients(self.parameters)
            if fresh:
                self.scaling.after_backward(self.current, next(iter(fresh.values())).device)
            if self.by_hand:
                self.current.before_update(fresh)
            self.current.told = len(self.forward_trace.told)
            self.forward_trace.after_backward(finished)
            self.recurrences.after_backward(finished)
        step = self.current
        if self.running.optimizer is None and step.stepped and step.stepped >= step.fresh:
            self._complete()  # every parameter has its optimizer, that stepped by itself

    def _fresh(self) -> Named:
        """The parameters that backward passes have brought gradients to since the last step."""
        return {name: p for name, p in self.parameters.items() if name in self.current.fresh}

    @torch.no_grad()
    def before_step(
        self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any] | None:
        """An optimizer is about to step; the arguments to call it with, if they are others."""
        if self.closed:
            return None
        if self.running.optimizer is not None:
            held = (set(self.tracked.held_by(each)) for each in (self.running.optimizer, optimizer))
            if self.running.calls(optimizer, *held):
                if self._logs() and self.running.with_closure:  # which has brought the gradients
                    self.current.take_clipped(self.tracked.held_by(optimizer))
                return None
            self._end_failed()
        mine = self._moved_by(optimizer)
        if not mine:
            return None
        self.optimized = True
        if self._logs():
            self._look_before(optimizer, mine, has_closure(args, kwargs))
        return self.running.begin(optimizer, args, kwargs)

    def _look_before(self, optimizer: Any, mine: Named, with_closure: bool) -> None:
        """An optimizer is about to move weights in a step that is recorded."""
        self.current.before_update(mine)
        self.facts.before_step(optimizer, mine)
        self.current.rates += learning_rates(optimizer, mine)
        self.scaling.before_step(self.current, optimizer)
        if not with_closure:
            self.current.take_clipped(mine, as_they_came=self.backward_pass != -1)
        if not self.current.passes and self.backward_pass == -1:
            # the gradients came from torch.autograd.grad
            self.forward_trace.after_backward(self.forward_trace.waiting.last())
            self.recurrences.after_backward(self.recurrences.waiting.last())

    def _moved_by(self, optimizer: Any) -> Named:
        """What an optimizer that is about to step moves of the model; some may be new."""
        mine = self.tracked.held_by(optimizer)
        new = self._take_new(not mine or (self._logs() and self.backward_pass == -1))
        unseen = [name for name in new if self.parameters[name].grad is not None]
        if unseen:
            some = f"{unseen[0]} and {len(unseen) - 1} more"
            self.notes["unfrozen"] = f"unfrozen, or new in the model: {some}: {UNSEEN}"
        for name in unseen:
            self.current.touched(name)
        return self.tracked.held_by(optimizer) if new else mine

    def after_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The step is over."""
        if self.closed:
            return
        if self.running.optimizer is optimizer:
            self._end_step(has_closure(args, kwargs))
        else:
            self.running.called(optimizer)

    def _end_failed(self) -> None:
        """The running step has ended in an error; an optimizer that it called may have stepped."""
        if self.running.moved:
            self._end_step()
        else:
            self.running.end()
            self.current.failed()

    @torch.no_grad()
    def _end_step(self, with_closure: bool = False) -> None:
        mine = self.tracked.held_by(self.running.optimizer)
        self.running.end()
        if self.current.before.keys() >= mine.keys():  # it is recorded
            if with_closure:
                self.current.take_clipped(mine)
            self.current.updated(mine)
            self.facts.after_step(mine)
        if not any(p.grad is not None for p in mine.values()) and not self.current.fresh:
            return  # there was nothing to step with
        self.current.stepped |= mine.keys()
        if self.backward_pass == -1 and self.current.fresh <= self.current.stepped:
            self._complete()

    @torch.no_grad()
    def _complete(self) -> None:
        """A step is over: make its record, if it is to have one, and begin the next."""
        step, logs = self.current, self._logs()
        self.current = step.after()
        if self.notes.pop("steps", None):
            self.write_notes()
        if logs:
            self._record(step)
        else:
            self.steps += 1

    def _record(self, step: Step) -> None:
        """Make the record of a step, unless its optimizer was told to leave it out."""
        step.take_weights(self.parameters)
        seen = self.recurrences.found, self.forward_trace, self.clips_at, self.scaling, self.facts
        record, thrown, said = assemble(self.steps + 1, step, *seen)
        self.facts.clear()
        self.skipped += thrown
        if self.backward_pass == -1:
            self.recurrences.clear()
            self.forward_trace.clear()
        else:  # a pass of the next step has begun
            self._throw_away(step.told)
        if record is None:
            return
        if said == UNTOLD:
            self.tell("scaler", UNTOLD)
        elif said:
            self.notes.setdefault("scaler", said)
        self.steps += 1
        self.add(record)
