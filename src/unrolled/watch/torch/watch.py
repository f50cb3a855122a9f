"""`Watch` hooks a model and its optimizers, and records every complete step."""

from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from unrolled.backends import torch as backend
from unrolled.errors import SettingError
from unrolled.torch.through_time.hooks import Hooks
from unrolled.torch.through_time.recurrences import Recurrences
from unrolled.watch.record_store import KEEP, RecordStore, Sink
from unrolled.watch.torch.build_records import assemble
from unrolled.watch.torch.data_updates import UNTOLD as UNTOLD_MOVES
from unrolled.watch.torch.data_updates import DataUpdates
from unrolled.watch.torch.forward_trace import ForwardTrace
from unrolled.watch.torch.loss_scale import UNTOLD, LossScale
from unrolled.watch.torch.model_hooks import ModelHooks, weakly
from unrolled.watch.torch.optimizer_hooks import all_steps, is_stepping
from unrolled.watch.torch.states import StateNames, States, check_states
from unrolled.watch.torch.step import Named, Step, groups_with
from unrolled.watch.torch.step_facts import StepFacts
from unrolled.watch.torch.tracked_parameters import TrackedParameters

PATIENCE = 100
"""Passes without a step before a note says what a step is."""

NO_STEP = (
    f"{PATIENCE} passes, and no step of an optimizer that holds the model's parameters: records "
    "are made at steps. Where you move the weights yourself, call watched.step() after it. "
    "Gradients from torch.func are not seen"
)

UNSEEN = "no pass was seen to bring their first gradients: norms before clipping may be missing"


OF_ONE_PROCESS = (
    "recorded in process {rank} of {size}: gradients of parameters are those of all processes "
    "together where DistributedDataParallel has reduced them; the loss and what is recorded of "
    "layers are of this process's part of the minibatch. Process 0 alone writes a run directory"
)

when_over = torch.autograd.Variable._execution_engine.queue_callback
"""Calls a function after the running backward pass, and after those that it was given before."""


def process() -> tuple[int, int]:
    """The number of this process among those of `torch.distributed`, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


class Watch(ModelHooks, RecordStore):
    """Watch a model's gradients from now on; your training loop stays as it is.

    A step is complete when an optimizer that holds the model's parameters has moved them;
    what happens in between (several backward passes, clipping) is seen by itself. Nothing of
    the training is changed, and no random number is drawn. Use it with ``with``, or close it, to
    leave the model exactly as it was.

    In a training by several processes call it in each of them, after ``init_process_group``. The
    gradients are the reduced ones, ``notes["processes"]`` says what is of one process only, and
    process 0 alone writes ``out``.

    Args:
        model: any module, also inside `torch.compile`, Lightning or Accelerate.
        every: steps from one record to the next, beginning with the first.
        sink: called with every `TelemetryRecord`.
        out: run directory to make, for `unrolled report` and `unrolled diagnose`. If it holds
            something, the next free name is taken (``runs/mine-2``) and a warning says so.
        keep: records kept in memory.
        through_time: look into recurrent layers; costs about one more forward and backward
            pass of each, on the steps that are recorded.
        clips_at: the threshold that your loop clips at, if you want to be told that it
            never acts; all else about clipping is seen without it.
        scaler: the loss scaler of your loop, whose factor is divided out: a
            `torch.amp.GradScaler` (in Lightning ``trainer.precision_plugin.scaler``, in
            Accelerate ``accelerator.scaler``), or any other object with ``scale(loss)``.
        states: by the name of a module of yours the argument of its ``forward`` that takes in
            the hidden state: ``{"decoder": "h"}``, of a tuple's first part ``"state.0"``. If
            the batch is not the state's first axis, its axis too: ``{"decoder": ("h", 1)}``.
        overwrite: replace a run that ``out`` already holds.

    Attributes:
        model, every: as given.
        steps: complete steps so far.
        skipped: backward passes thrown away by a loss scaler, as far as they were seen.
        notes: by layer, what could not be traced and why.

    Raises:
        SettingError: ``every`` or ``keep`` is below 1, ``model`` is no module, ``scaler`` no
            scaler, or ``states`` names what there is not.
        RunError: ``out`` cannot be made, or what is to be replaced is no run.

    Example:
        >>> import torch
        >>> from unrolled.watch import watch
        >>> model = torch.nn.LSTM(3, 5)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> watched = watch(model)
        >>> model(torch.ones(7, 2, 3))[0][-1].sum().backward()
        >>> optimizer.step()
        >>> record = watched.last
        >>> len(record.layers["lstm"].hidden_gradient_mean), record.clip_coefficient
        (7, 1.0)
        >>> watched.close()
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 1,
        sink: Sink | None = None,
        out: str | Path | None = None,
        keep: int = KEEP,
        through_time: bool = True,
        clips_at: float | None = None,
        scaler: Any = None,
        states: StateNames | None = None,
        overwrite: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(f"watch takes a torch.nn.Module; it was given {type(model)}")
        if every < 1:
            raise SettingError(f"every is {every}; it must be 1 or more")
        settings = {"model": type(model).__name__, "every": every, "clips_at": clips_at}
        self.scaling, named = LossScale(scaler), check_states(states, model)
        rank, size = process()
        super().__init__(sink, None if rank else out, keep, "torch", backend, settings, overwrite)
        if size > 1:
            self.note("processes", OF_ONE_PROCESS.format(rank=rank, size=size))
        self.model, self.every, self.clips_at = model, every, clips_at
        self.through_time = through_time
        self.steps = self.skipped = self.forward_passes = self.backward_passes = 0
        self.current, self.data_updates, self.facts = Step(), DataUpdates(), StepFacts()
        self.forward_trace, self.recurrences = ForwardTrace(), Recurrences(self.notes)
        self.states = States(named, self.recurrences)
        self.backward_pass = -1  # the graph task that is running
        self.stepping: Any = None  # an optimizer; PyTorch tells nobody that its step has failed
        self.moving: Named = {}  # what it moves
        self.by_hand = self.optimized = False
        self.hooks = Hooks()
        # modules' hooks keep this watch; where the model takes none, those of parameters have to
        scripted = isinstance(model, torch.jit.ScriptModule)
        on_gradient = self._on_gradient if scripted else weakly(self._on_gradient)
        self.tracked = TrackedParameters(self.hooks, on_gradient)
        try:
            if not scripted:
                self.hooks.after(model, self._when_seen("the model", self._after_root))
            self._hook_model()
        except BaseException:
            self.hooks.remove()  # hooks of a watch that never came to be would fail
            raise
        all_steps().add(self)

    def loss(self, value: Any) -> None:
        """Tell the loss of a minibatch, before the optimizer's step; the mean is recorded.

        Args:
            value: a number or tensor. It is not needed for losses that the model itself
                returns: a scalar, or a ``loss`` in its output.
        """
        if self._logs():
            self.forward_trace.told.append(
                value.detach() if isinstance(value, torch.Tensor) else value
            )

    def tap(self, h: torch.Tensor, name: str) -> torch.Tensor:
        """Mark the state of a recurrence that is written out without a module.

        Args:
            h: the hidden state of a step, ``(B, H)``, as it goes on to the next.
            name: of the layer; all taps of a name make its time steps, in order.

        Returns:
            ``h`` itself.
        """
        if self._sees():
            self.states.add(name, h, self.recurrences.last_state(name))
        return h

    @torch.no_grad()
    def step(self) -> None:
        """Say that you have moved the weights by hand, without an optimizer.

        Call it after every update. Steps of optimizers are seen by themselves. Without a backward
        pass since the last step it does nothing.
        """
        if self.closed or is_stepping(self.stepping) or not self.current.fresh:
            return
        self.stepping = None
        self._take_new(look=True)
        self.by_hand, mine = True, self._fresh()
        if self._logs():
            self.current.take_clipped(mine)
            if self.current.before.keys() >= mine.keys():
                self.current.updated(mine)
        self.current.stepped |= mine.keys()
        self._complete()

    def settle(self) -> None:
        """Finish a step of which only some parameters have moved, by an optimizer of those."""
        if not self.closed and self.stepping is None and self.current.stepped:
            self._complete()

    def close(self) -> None:
        super().close()
        all_steps().remove(self)
        if self.hooks.handles:
            self.hooks.remove()
            self.recurrences.clear()
            self.recurrences, self.forward_trace = Recurrences(self.notes), ForwardTrace()
            self.current, self.stepping, self.data_updates = Step(), None, DataUpdates()

    def _after_root(self, *given: Any) -> None:
        self.forward_passes += 1
        self._look_for_steps(self.forward_passes)
        self._take_new()
        self.forward_trace.after_root(*given)

    def _look_for_steps(self, passes: int) -> None:
        if passes == PATIENCE and not self.steps and "steps" not in self.notes:
            self.note("steps", NO_STEP)

    def _after_leaf(self, name: str, *given: Any) -> None:
        self.facts.ran.add(name)
        self.scaling.after_leaf(given[0], given[3])
        self.forward_trace.after_leaf(name, *given)

    def _logs(self) -> bool:
        return not self.closed and self.steps % self.every == 0

    def _sees(self) -> bool:
        """Whether a forward pass that runs now belongs to a step to be recorded."""
        if self.closed or not torch.is_grad_enabled():
            return False
        self.settle()
        return self._logs()

    def _throw_away(self) -> None:
        """Forget what the backward passes so far have brought: it was cleared before a step."""
        self.forward_trace.forget()
        self.recurrences.throw_away()

    def _on_gradient(self, parameter: nn.Parameter) -> None:
        """A parameter's gradient has been added to: a backward pass is running."""
        if self.closed:
            return
        running = torch._C._current_graph_task_id()
        name = self.tracked.names.get(id(parameter))
        if running != self.backward_pass:  # its first gradient
            self.backward_pass = running
            self.settle()
            self._begin_backward(parameter)
            self.facts.arrived(name, parameter)
            # what DDP still does to its gradients comes first
            when_over(lambda: when_over(self._after_backward))
        if name is not None:  # else it is unfrozen since, which is seen when the pass is over
            self.current.fresh.setdefault(name, None)

    def _begin_backward(self, parameter: nn.Parameter) -> None:
        """A pass has brought its first gradient: find out if those before were cleared."""
        if self.data_updates.have_come(self.parameters):
            self.tell("steps", UNTOLD_MOVES)
        if self.current.cleared(self.parameters, parameter):
            self.skipped += self.current.is_lost()
            self.current = self.current.anew()
            self._throw_away()

    @torch.no_grad()
    def _after_backward(self) -> None:
        finished, self.backward_pass = self.backward_pass, -1
        if self.closed:
            return
        for name in self._take_new():
            if self.parameters[name].grad is not None:  # by a pass through a part of the model
                self.current.fresh.setdefault(name, None)
        self.current.went_back(self.parameters)
        self.backward_passes += 1
        self._look_for_steps(self.backward_passes)
        fresh = self._fresh()
        if not self.steps and not self.optimized:
            self.data_updates.after_backward(fresh)
        if self._logs():
            self.current.take_gradients(self.parameters)
            if fresh:
                self.scaling.after_backward(self.current, next(iter(fresh.values())).device)
            if self.by_hand:
                self.current.before_update(fresh)
            self.forward_trace.after_backward(finished)
            self.recurrences.after_backward(finished)
        step = self.current
        if self.stepping is None and step.stepped and step.stepped >= step.fresh.keys():
            self._complete()  # every parameter has its optimizer, that stepped by itself

    def _fresh(self) -> Named:
        """The parameters that backward passes have brought gradients to since the last step."""
        return {name: p for name, p in self.parameters.items() if name in self.current.fresh}

    @torch.no_grad()
    def before_step(self, optimizer: Any, closure: Any) -> None:
        """An optimizer is about to step."""
        if self.closed:
            return
        mine = self.tracked.held_by(optimizer)
        another = self.stepping is not None and self.stepping is not optimizer
        if another and not mine:  # of another model, in another thread
            return
        if another and is_stepping(self.stepping):  # this is part of that step
            if self._logs():
                self.current.before_update(mine)
                self.current.take_clipped(mine)
            self.moving |= mine
            return
        if self.stepping is not None:  # that step has ended in an error
            self.stepping = None
            self.current.failed()
        mine = self._moved_by(optimizer, mine)
        if not mine:
            return
        self.optimized, self.stepping, self.moving = True, optimizer, mine
        if self._logs():
            self._look_before(optimizer, mine, closure)

    def _look_before(self, optimizer: Any, mine: Named, closure: Any) -> None:
        """An optimizer is about to move weights in a step that is recorded."""
        self.current.before_update(mine)
        groups = groups_with(optimizer, mine)
        self.facts.before_step(optimizer, groups[0], mine)
        self.current.rates += [group["lr"] for group in groups if "lr" in group]
        self.scaling.before_step(self.current, optimizer)
        if closure is None:
            self.current.take_clipped(mine, as_they_came=self.backward_pass != -1)
        if not self.current.passes and self.backward_pass == -1:
            # the gradients came from torch.autograd.grad
            self.forward_trace.after_backward(self.forward_trace.waiting.last())
            self.recurrences.after_backward(self.recurrences.waiting.last())

    def _moved_by(self, optimizer: Any, mine: Named) -> Named:
        """Parameters of the model that an optimizer is about to move; some may be new."""
        new = self._take_new(not mine or (self._logs() and self.backward_pass == -1))
        unseen = [name for name in new if self.parameters[name].grad is not None]
        if unseen:
            some = f"{unseen[0]} and {len(unseen) - 1} more"
            self.notes["unfrozen"] = f"unfrozen, or new in the model: {some}: {UNSEEN}"
        for name in unseen:
            self.current.fresh.setdefault(name, None)
        return self.tracked.held_by(optimizer) if new else mine

    @torch.no_grad()
    def after_step(self, optimizer: Any, closure: Any) -> None:
        """The step is over."""
        if self.closed or self.stepping is not optimizer:
            return
        mine, self.stepping = self.moving, None
        if self.current.before.keys() >= mine.keys():  # it is recorded
            if closure is not None:
                self.current.take_clipped(mine)
            self.current.updated(mine)
            self.facts.after_step(mine)
        if not any(p.grad is not None for p in mine.values()) and not self.current.fresh:
            return  # there was nothing to step with
        self.current.stepped |= mine.keys()
        if self.backward_pass == -1 and self.current.fresh.keys() <= self.current.stepped:
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
        record, said = assemble(self.steps + 1, step, *seen)
        self.facts.clear()
        if self.backward_pass == -1:
            self.recurrences.clear()
            self.forward_trace.clear()
        else:  # a pass of the next step has begun
            self._throw_away()
        if record is None:
            self.skipped += 1
            return
        if said == UNTOLD:
            self.tell("scaler", UNTOLD)
        elif said:
            self.notes.setdefault("scaler", said)
        self.steps += 1
        self.add(record)
