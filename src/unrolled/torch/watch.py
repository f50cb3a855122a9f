"""``watch(model)``: telemetry for any PyTorch model in any training loop, in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from unrolled.backends import torch as backend
from unrolled.errors import SettingError
from unrolled.telemetry.keeping import KEEP, Keeper, Sink
from unrolled.torch.assembly import assemble
from unrolled.torch.compiling import hook_guards
from unrolled.torch.curves import CELL_MODES
from unrolled.torch.fused import FUSED
from unrolled.torch.hooks import Hooks, is_recording, weakly
from unrolled.torch.names import named_parts
from unrolled.torch.passing import Passing
from unrolled.torch.recurrences import Recurrences
from unrolled.torch.steps import Named, Step, has_closure, loss_scale

PATIENCE = 100
"""Passes without a step before a note says what a step is."""


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
        self.passing = Passing()
        self.recurrences = Recurrences(self.notes)
        self.hooks = Hooks()
        self.backward_pass = -1
        self.optimizer: Any = None
        self.before: dict[str, torch.Tensor] = {}
        self.through_time = through_time
        try:
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
        if not self.closed and self.optimizer is None and (self.step.stepped or self._by_hand()):
            self._complete()

    def _by_hand(self) -> bool:
        """Whether weights were written to after the last backward pass."""
        versions = [p._version for p in self.parameters.values()]
        return bool(self.step.passes) and versions != self.step.versions

    def close(self) -> None:
        super().close()
        if self.hooks.handles:
            self.hooks.remove()
            self.recurrences, self.passing = Recurrences(self.notes), Passing()
            self.step = Step()
            hook_guards.end(self)

    def _hook_model(self) -> None:
        """Hook what has no hooks yet: a model may get new layers and weights at any time."""
        modules, parameters = named_parts(self.model)
        for name, module in modules:
            if not self.hooks.is_new(module):
                continue
            if isinstance(module, torch.jit.ScriptModule):
                self._leave_out(name, module)
            else:
                self._hook_module(name, module)
        self._hook_parameters(parameters)

    def _leave_out(self, name: str, module: nn.Module) -> None:
        """A module that takes no hooks, and all in it; their parameters have some of their own."""
        self.notes[name] = "not looked into, it is compiled by torch.jit: its weights are recorded"
        for part in module.modules():
            self.hooks.is_new(part)

    def _hook_module(self, name: str, module: nn.Module) -> None:
        seen = self.recurrences
        known = type(module).__module__.startswith("torch.")
        opaque = isinstance(module, FUSED) or type(module) in CELL_MODES
        if self.through_time and isinstance(module, FUSED):
            self.hooks.before(module, self._when_seen(seen.before_fused, name))
            hook = self._when_seen(seen.after_fused, name, seen.after_unseen)
            self.hooks.after(module, hook, eager=True)
        elif self.through_time and opaque:
            hook = self._when_seen(seen.after_cell, name, seen.after_unseen)
            self.hooks.after(module, hook, eager=True)
        elif self.through_time and not known:
            self.hooks.after(module, self._when_seen(seen.after_any, name))
        if module is self.model:
            self.hooks.after(module, self._when_seen(self._after_root, name))
        if not list(module.children()):
            # those of an opaque module run in between compiled code, not inside it
            self.hooks.after(module, self._when_seen(self._after_leaf, name), eager=opaque)

    def _after_root(self, *given: Any) -> None:
        self.calls += 1
        if self.calls == PATIENCE and not (self.steps or self.step.passes):
            self.notes["steps"] = (
                f"{PATIENCE} forward passes, and no backward pass that left gradients in the "
                "model's parameters: gradients from torch.func are not seen, those from "
                "torch.autograd.grad if an optimizer steps with them"
            )
        self._hook_unfrozen()
        self.passing.after_root(*given)

    def _after_leaf(self, *given: Any) -> None:
        self.passing.after_leaf(*given)

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

    def _hook_parameters(self, named: list[tuple[str, nn.Parameter]]) -> None:
        trained = [(name, p) for name, p in named if p.requires_grad]
        self.frozen = [p for _, p in named if not p.requires_grad]
        self.parameters: Named = {name: p for name, p in trained if not is_lazy(p)}
        self.has_lazy = len(self.parameters) < len(trained)
        self.names = {id(p): name for name, p in self.parameters.items()}
        # modules' hooks keep this watch; where the model takes none, those of parameters have to
        scripted = isinstance(self.model, torch.jit.ScriptModule)
        on_gradient = self._on_gradient if scripted else weakly(self._on_gradient)
        for parameter in self.parameters.values():
            self.hooks.on_gradient(parameter, on_gradient)

    def _hook_unfrozen(self) -> Named:
        """Hook parameters that have been unfrozen since, which may be at any time."""
        if not any(p.requires_grad for p in self.frozen):
            return {}
        before = self.parameters
        self._hook_parameters(named_parts(self.model)[1])
        return {name: p for name, p in self.parameters.items() if name not in before}

    def _logs(self) -> bool:
        return not self.closed and self.steps % self.every == 0

    def _sees(self) -> bool:
        """Whether a forward pass that runs now belongs to a step to be recorded."""
        if self.closed or not torch.is_grad_enabled():
            return False
        self.settle()
        if self.step.lost_gradients():
            if all(p.grad is None for p in self.parameters.values()):
                self._throw_away(len(self.passing.told))
            self.step.left = []  # else they were replaced, by hand
        elif self.step.zeroed_gradients():
            self._throw_away(len(self.passing.told))
            self.step.left = []
        return self._logs()

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
            self.settle()
            self.backward_pass = running
            if self.step.lost_gradients() or self.step.zeroed_gradients(parameter.grad):
                self._throw_away(self.step.told)
            torch.autograd.Variable._execution_engine.queue_callback(self._after_backward)
        name = self.names.get(id(parameter), "")
        self.step.fresh.add(name)
        self.step.order.setdefault(name)

    @torch.no_grad()
    def _after_backward(self) -> None:
        finished, self.backward_pass = self.backward_pass, -1
        if self.closed:
            return
        self.step.passes += 1
        for name, parameter in self._hook_unfrozen().items():
            if parameter.grad is not None:  # by a pass through a part of the model alone
                self.step.fresh.add(name)
                self.step.order.setdefault(name)
        self.step.versions = [p._version for p in self.parameters.values()]
        if self.step.passes == PATIENCE and not self.steps:
            self.notes["steps"] = (
                f"{PATIENCE} backward passes, and no step of an optimizer that holds the model's "
                "parameters: records are made at steps"
            )
        if self._logs():
            self.step.went_back(self.parameters)
            self.step.told = len(self.passing.told)
            self.passing.after_backward(finished)
            self.recurrences.after_backward(finished)
        if self.optimizer is None and self.step.stepped >= self.step.fresh:
            self._complete()  # every parameter has its optimizer, that stepped by itself

    @torch.no_grad()
    def _before_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.closed or self.optimizer is not None:  # an optimizer that calls another
            return
        if any(p.grad is not None for p in self._hook_unfrozen().values()):
            self.notes["unfrozen"] = (
                "parameters were unfrozen before a pass through parts of the model that none of "
                "the others had a gradient in: its norms are those after clipping"
            )
        mine = self._held_by(optimizer)
        if self.has_lazy or not mine:  # they may have come since
            self._hook_model()
            mine = self._held_by(optimizer)
        if not mine:
            return
        self.optimizer = optimizer
        if self._logs():
            self.before = self.step.before_update(mine)
            self.step.scale = loss_scale()
            self.step.left_scaled = getattr(optimizer, "grad_scale", None)
            self.step.skipped = getattr(optimizer, "found_inf", None)
            if not has_closure(args, kwargs):
                self.step.take_clipped(mine)
            if not self.step.passes and self.backward_pass == -1:
                # the gradients came from torch.autograd.grad
                self.passing.after_backward(self.passing.waiting.last())
                self.recurrences.after_backward(self.recurrences.waiting.last())

    @torch.no_grad()
    def _after_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.closed or self.optimizer is not optimizer:
            return
        self.optimizer, mine = None, self._held_by(optimizer)
        if self.before:
            if has_closure(args, kwargs):
                self.step.take_clipped(mine)
            self.step.updated(mine, self.before)
            self.before = {}
        if not any(p.grad is not None for p in mine.values()) and not self.step.fresh:
            return  # there was nothing to step with
        self.step.stepped |= mine.keys()
        if self.backward_pass == -1 and self.step.fresh <= self.step.stepped:
            self._complete()

    def _held_by(self, optimizer: Any) -> Named:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {name: p for name, p in self.parameters.items() if id(p) in held}

    @torch.no_grad()
    def _complete(self) -> None:
        """A step is over: make its record, if it is to have one, and begin the next."""
        step, passing, logs = self.step, self.passing, self._logs()
        self.step = Step()
        self.notes.pop("steps", None)
        if not logs:
            self.steps += 1
            return
        step.take_weights(self.parameters)
        found = self.recurrences.found
        record, thrown = assemble(self.steps + 1, step, found, passing, self.clips_at)
        self.recurrences.clear()
        self.passing.clear()
        self.skipped += thrown
        if record is not None:
            self.steps += 1
            self.add(record)
            self._hook_model()
