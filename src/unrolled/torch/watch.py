"""``watch(model)``: telemetry for any PyTorch model in any training loop, in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unrolled.backends import torch as backend
from unrolled.errors import SettingError
from unrolled.telemetry.keeping import KEEP, Keeper, Sink
from unrolled.telemetry.records import TelemetryRecord
from unrolled.torch.assembly import assemble
from unrolled.torch.compiling import hook_guards
from unrolled.torch.hooks import Hooks, is_recording, weakly
from unrolled.torch.module_hooks import ModuleHooks
from unrolled.torch.names import named_parts
from unrolled.torch.passing import Passing
from unrolled.torch.recurrences import Recurrences
from unrolled.torch.step_facts import StepFacts
from unrolled.torch.steps import Named, Step, has_closure, loss_scale, running_steps
from unrolled.torch.trained import Trained

PATIENCE = 100
"""Passes without a step before a note says what a step is."""

UNSEEN = "no pass was seen to bring their first gradients: norms before clipping may be missing"


def watch(
    model: nn.Module,
    every: int = 1,
    sink: Sink | None = None,
    out: str | Path | None = None,
    keep: int = KEEP,
    through_time: bool = True,
    clips_at: float | None = None,
) -> "Watch":
    """Watch a model's gradients from now on; your training loop stays as it is.

    A step is complete when an optimizer that holds the model's parameters has moved them;
    what happens in between (several backward passes, clipping, a loss scaler) is seen by
    itself. Nothing of the training is changed, and no random number is drawn.

    Args:
        model: any module, also inside `torch.compile`, Lightning or Accelerate.
        every: steps from one record to the next, beginning with the first.
        sink: called with every `TelemetryRecord`.
        out: run directory to make, for `unrolled report` and `unrolled diagnose`.
        keep: records kept in memory.
        through_time: look into recurrent layers; costs about one more forward and backward
            pass of each, on the steps that are recorded.
        clips_at: the threshold that your loop clips at, if you want to be told that it
            never acts; all else about clipping is seen without it.

    Returns:
        A handle: ``last``, ``records``, ``diagnose()``, ``close()``; use it with ``with``
        or close it to leave the model exactly as it was.

    Raises:
        SettingError: ``every`` or ``keep`` is below 1, or ``model`` is no module.
        RunError: ``out`` cannot be made, or is no empty folder.

    Example:
        >>> import torch
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
    return Watch(model, every, sink, out, keep, through_time, clips_at)


class Watch(Keeper):
    """A watched model; made by `watch`.

    Attributes:
        model: the model.
        every: steps from one record to the next.
        steps: complete steps so far.
        skipped: backward passes thrown away by a loss scaler, as far as they were seen.
        notes: by layer, what could not be traced and why.
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
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(f"watch takes a torch.nn.Module; it was given {type(model)}")
        if every < 1:
            raise SettingError(f"every is {every}; it must be 1 or more")
        settings = {"model": type(model).__name__, "every": every, "clips_at": clips_at}
        super().__init__(sink, out, keep, "torch", backend, settings)
        self.model, self.every, self.clips_at = model, every, clips_at
        self.steps = self.skipped = self.calls = 0
        self.step = Step()
        self.facts = StepFacts()
        self.passing = Passing()
        self.recurrences = Recurrences(self.notes)
        self.hooks = Hooks()
        # modules' hooks keep this watch; where the model takes none, those of parameters have to
        scripted = isinstance(model, torch.jit.ScriptModule)
        on_gradient = self._on_gradient if scripted else weakly(self._on_gradient)
        self.trained = Trained(self.hooks, on_gradient)
        self.backward_pass = -1
        self.optimizer: Any = None
        self.optimized: set[str] = set()
        self.unsure: list[TelemetryRecord | None] = []
        seen = self.recurrences if through_time else None
        self.module_hooks = ModuleHooks(
            self.hooks, self._when_seen, seen, self._after_leaf, self.notes
        )
        try:
            self._hook_root()
            self._hook_model()
        except BaseException:
            self.hooks.remove()  # hooks of a watch that never came to be would fail
            raise
        self.hooks.on_step(self._before_step, self._after_step)
        hook_guards.begin(self)

    def loss(self, value: Any) -> None:
        """Tell the loss of a minibatch, before the optimizer's step; the mean is recorded.

        Args:
            value: a number or tensor. It is not needed for losses that the model itself
                returns: a scalar, or a ``loss`` in its output.
        """
        if self._logs():
            self.passing.told.append(value.detach() if isinstance(value, torch.Tensor) else value)

    def tap(self, h: torch.Tensor, name: str) -> torch.Tensor:
        """Mark the state of a recurrence that is written out without a module.

        Args:
            h: the hidden state of a step, ``(B, H)``, as it goes on to the next.
            name: of the layer; all taps of a name make its time steps, in order.

        Returns:
            ``h`` itself.
        """
        if self._sees():
            self.recurrences.add_state(name, h, self.recurrences.last_state(name))
        return h

    def settle(self) -> None:
        """Finish a step that nothing more will come of, as far as can be told.

        It is one of which some parameters have moved, by an optimizer that holds only those,
        or all by hand, without an optimizer.
        """
        if self.closed or self.optimizer is not None:
            return
        if self.step.stepped or self.step.written(self.parameters, self.optimized):
            self._complete()
        self._believe()

    @property
    def parameters(self) -> Named:
        """Those of the model that are trained, by name."""
        return self.trained.parameters

    def close(self) -> None:
        super().close()
        if self.hooks.handles:
            self.hooks.remove()
            self.recurrences, self.passing = Recurrences(self.notes), Passing()
            self.step = Step()
            hook_guards.end(self)

    def _hook_root(self) -> None:
        if not isinstance(self.model, torch.jit.ScriptModule):
            self.hooks.after(self.model, self._when_seen(self._after_root, "the model"))

    def _hook_model(self) -> None:
        """Hook what has no hooks yet: a model may get new layers and weights at any time."""
        modules, parameters = named_parts(self.model)
        for name, module in modules:
            self.module_hooks.add(name, module)
        self.trained.take(parameters)

    def _after_root(self, *given: Any) -> None:
        self.calls += 1
        if self.calls == PATIENCE and not (self.steps or self.step.since):
            self.notes["steps"] = (
                f"{PATIENCE} forward passes, and no backward pass that left gradients in the "
                "model's parameters: gradients from torch.func are not seen, those from "
                "torch.autograd.grad if an optimizer steps with them"
            )
        if self.trained.has_lazy:
            self._hook_model()  # they have their shape now, and get their first gradients next
        self.trained.take_unfrozen(self.model)
        self.passing.after_root(*given)

    def _after_leaf(self, name: str, *given: Any) -> None:
        self.facts.ran.add(name)
        self.passing.after_leaf(name, *given)

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
            except Exception as error:
                # kinds of tensors that we know nothing of: the training must go on
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

    def _look_back(self, arrived: nn.Parameter | None = None) -> None:
        """A new pass begins: find out what has become of the passes before.

        Args:
            arrived: the parameter that the first gradient of a backward pass was added to.
        """
        if self.optimizer is None and self.step.stepped:
            self._complete()
        if not self.step.cleared(self.parameters, arrived):
            return
        told = len(self.passing.told) if arrived is None else self.step.told
        if self.optimizer is None and self.step.written(self.parameters, self.optimized):
            # or they were only moved, for a look from there, or set back: the first time an
            # optimizer may be seen to step after all
            self._complete(sure=self.steps > 0)
        else:
            self.step = self.step.anew()
            self._throw_away(told)

    def _throw_away(self, told: int) -> None:
        """What the backward passes so far have brought was cleared, and no step made of it."""
        self.passing.forget(told)
        self.recurrences.throw_away(self.backward_pass)

    def _on_gradient(self, parameter: nn.Parameter) -> None:
        """A parameter's gradient has been added to: a backward pass is running."""
        if self.closed:
            return
        running = torch._C._current_graph_task_id()
        if running != self.backward_pass:  # its first gradient
            self.backward_pass = running
            self._look_back(parameter)
            self.facts.arrived(self.trained.names.get(id(parameter)), parameter)
            torch.autograd.Variable._execution_engine.queue_callback(self._after_backward)
        name = self.trained.names.get(id(parameter))
        if name is not None:  # else it is unfrozen since, which is seen when the pass is over
            self.step.touched(name)

    @torch.no_grad()
    def _after_backward(self) -> None:
        finished, self.backward_pass = self.backward_pass, -1
        if self.closed:
            return
        for name, parameter in self.trained.take_unfrozen(self.model).items():
            if parameter.grad is not None:  # by a pass through a part of the model alone
                self.step.touched(name)
        self.step.went_back(self.parameters)
        if self.step.since == PATIENCE and not self.steps:
            self.notes["steps"] = (
                f"{PATIENCE} backward passes, and no step of an optimizer that holds the model's "
                "parameters: records are made at steps"
            )
        if self._logs():
            self.step.take_gradients(self.parameters)
            self.step.told = len(self.passing.told)
            self.passing.after_backward(finished)
            self.recurrences.after_backward(finished)
        step = self.step
        if self.optimizer is None and step.stepped and step.stepped >= step.fresh:
            self._complete()  # every parameter has its optimizer, that stepped by itself

    @torch.no_grad()
    def _before_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.closed:
            return
        if self.optimizer is not None:
            if running_steps() > 1 or not self.trained.held_by(optimizer):
                return  # an optimizer that calls another, or one in another thread
            self.optimizer = None  # its step has ended in an error
            self.step.failed()
        mine = self._moved_by(optimizer)
        if not mine:
            return
        self.optimizer, self.unsure = optimizer, []
        self.optimized |= mine.keys()
        if self._logs():
            self.step.before_update(mine)
            self.facts.before_step(optimizer, mine)
            self.step.scale = loss_scale()
            self.step.left_scaled = getattr(optimizer, "grad_scale", None)
            self.step.skipped = getattr(optimizer, "found_inf", None)
            if not has_closure(args, kwargs):
                self.step.take_clipped(mine, as_they_came=self.backward_pass != -1)
            if not self.step.passes and self.backward_pass == -1:
                # the gradients came from torch.autograd.grad
                self.passing.after_backward(self.passing.waiting.last())
                self.recurrences.after_backward(self.recurrences.waiting.last())

    def _moved_by(self, optimizer: Any) -> Named:
        """What an optimizer that is about to step moves of the model; some may be new."""
        new = list(self.trained.take_unfrozen(self.model))
        mine = self.trained.held_by(optimizer)
        lazy = self.trained.has_lazy
        if lazy or not mine or (self._logs() and self.trained.lacks(optimizer, self.model)):
            self._hook_model()
            new += [name for name in self.trained.held_by(optimizer) if name not in mine]
        unseen = [name for name in new if self.parameters[name].grad is not None]
        if unseen:
            some = f"{unseen[0]} and {len(unseen) - 1} more"
            self.notes["unfrozen"] = f"unfrozen, or new in the model: {some}: {UNSEEN}"
        for name in unseen:
            self.step.touched(name)
        return self.trained.held_by(optimizer)

    @torch.no_grad()
    def _after_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.closed or self.optimizer is not optimizer:
            return
        self.optimizer, mine = None, self.trained.held_by(optimizer)
        if self.step.before.keys() >= mine.keys():  # it is recorded
            if has_closure(args, kwargs):
                self.step.take_clipped(mine)
            self.step.updated(mine)
            self.facts.after_step(mine)
        if not any(p.grad is not None for p in mine.values()) and not self.step.fresh:
            return  # there was nothing to step with
        self.step.stepped |= mine.keys()
        if self.backward_pass == -1 and self.step.fresh <= self.step.stepped:
            self._complete()

    @torch.no_grad()
    def _complete(self, sure: bool = True) -> None:
        """A step is over: make its record, if it is to have one, and begin the next.

        Args:
            sure: whether it was one; else the next step that is seen says so.
        """
        self._believe()
        step, record, logs = self.step, None, self._logs()
        self.step = step.after()
        self.notes.pop("steps", None)
        if logs:
            step.take_weights(self.parameters)
            found = self.recurrences.found
            record, thrown = assemble(
                self.steps + 1, step, found, self.passing, self.clips_at, self.facts
            )
            self.facts.clear()
            self.skipped += thrown
            if self.backward_pass == -1:
                self.recurrences.clear()
                self.passing.clear()
            else:  # a pass of the next step has begun
                self._throw_away(step.told)
            if record is None:  # the optimizer was told to leave it out
                return
        self.unsure = [record]
        if sure:
            self._believe()

    def _believe(self) -> None:
        """Count the last step, if it is not counted so far."""
        records, self.unsure = self.unsure, []
        for record in records:
            self.steps += 1
            if record is not None:
                self.add(record)
                self._hook_model()
