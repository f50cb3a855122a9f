"""`ModelHooks`: the part of a watch that hooks modules and parameters, each by its kind."""

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import torch
from torch import nn

from unrolled.backends import torch as backend
from unrolled.torch.through_time.fused_call import FUSED
from unrolled.torch.through_time.hooks import Hooks
from unrolled.torch.through_time.parameter_names import named_parts
from unrolled.torch.through_time.recurrences import Recurrences
from unrolled.watch.torch.states import States, of_cell
from unrolled.watch.torch.step import Named
from unrolled.watch.torch.tracked_parameters import TrackedParameters

SCRIPTED = "not looked into, it is compiled by torch.jit: its weights are recorded"


class ModelHooks:
    """Hooks what has no hooks yet; `unrolled.watch.torch.watch.Watch` says what happens then."""

    model: nn.Module
    through_time: bool
    closed: bool
    notes: dict[str, str]
    hooks: Hooks
    tracked: TrackedParameters
    recurrences: Recurrences
    states: States
    _sees: Callable[[], bool]
    _after_leaf: Callable[..., None]

    @property
    def parameters(self) -> Named:
        """Return the parameters that are trained, by name."""
        return self.tracked.parameters

    def _hook_model(self) -> None:
        """Hook what has no hooks yet: a model may get new layers and weights at any time."""
        modules, parameters = named_parts(self.model)
        for name, module in modules:
            if self.hooks.is_new(module):
                self._hook_module(name, module)
        self.tracked.take(parameters)

    def _hook_module(self, name: str, module: nn.Module) -> None:
        """Hook a module according to its class."""
        if isinstance(module, torch.jit.ScriptModule):  # it takes no hooks, its parameters do
            self.notes[name] = SCRIPTED
            for part in module.modules():
                self.hooks.is_new(part)
            return
        cell = of_cell(module)
        if cell is not None:
            self.states.named.setdefault(name, cell)
        opaque = isinstance(module, FUSED) or cell is not None
        if self.through_time and name in self.states.named:
            hook = self._when_seen(name, self.states.after, self.states.after_unseen)
            self.hooks.after(module, hook, eager=opaque)
        elif self.through_time and opaque:
            self.hooks.before(module, self._when_seen(name, self.recurrences.before_fused))
            hook = self._when_seen(name, self.recurrences.after_fused, self._after_unseen)
            self.hooks.after(module, hook, eager=True)
        elif self.through_time and not self._is_known(module):
            self.hooks.after(module, self._when_seen(name, self.states.after_unnamed))
        if not list(module.children()):
            # those of an opaque module run in between compiled code, not inside it
            self.hooks.after(module, self._when_seen(name, self._after_leaf), eager=opaque)

    def _is_known(self, module: nn.Module) -> bool:
        """Whether a module is PyTorch's, or has its recurrence in one of those inside it."""
        kind = getattr(type(module).forward, "__module__", None) or ""
        parts = module.modules()
        recurrent = any(isinstance(part, FUSED) or of_cell(part) is not None for part in parts)
        return kind.startswith("torch.") or recurrent or self.states.are_in(module)

    def _take_new(self, look: bool = False) -> list[str]:
        """Names of parameters that are trained from now on."""
        if not (look or self.tracked.have_changed()):
            return []
        before = {id(p) for p in self.parameters.values()}
        self._hook_model()
        return [name for name, p in self.parameters.items() if id(p) not in before]

    def _when_seen(
        self, name: str, seen: Callable[..., None], unseen: Callable[..., None] | None = None
    ) -> Callable[..., None]:
        """A hook that works on recorded steps, and not in the middle of compiled code."""

        def hook(*given: Any) -> None:
            # while the model is compiled or traced, our operations must not come along
            if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
                return
            function = seen if self._sees() else unseen
            if function is None or self.closed:
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

    def _after_unseen(self, name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        """A fused layer has run in a step that is not recorded, the next may be."""
        last = output[1]
        self.recurrences.has_ended(name, last[0] if isinstance(last, tuple) else last)


def weakly(method: Callable[..., None]) -> Callable[..., None]:
    """A method that is called as long as its object lives, and does not keep it alive.

    Parameters' hooks need it: the garbage collector does not see what they refer to, so a watch
    in them, which refers to the parameters, would never go.
    """
    reference = WeakMethod(method)

    def call(*given: Any) -> None:
        function = reference()
        if function is not None:
            function(*given)

    return call
