"""Hooks that come off again, and that no copy of a model takes along."""

from collections.abc import Callable
from functools import cache, partial
from threading import Lock
from typing import Any
from weakref import WeakSet, ref

import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)


class Hook:
    """A hook on a module; a copy or pickle of the module gets one that does nothing.

    Args:
        function: what to call.
    """

    def __init__(self, function: Callable[..., None] | None = None) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> None:
        if self.function is not None:
            self.function(*arguments)

    @property
    def __name__(self) -> str:  # TorchScript asks for it when it compiles hooks, too
        raise AttributeError("torch.jit.script cannot compile a watched model: close() it first")

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, ()


@cache
def eager_hook() -> type[Hook]:
    """A hook that runs outside of compiled code; PyTorch's compiler loads when first asked."""

    class Eager(Hook):
        __call__ = torch.compiler.disable(  # type: ignore[no-untyped-call]
            Hook.__call__, reason="a watched model cannot be one graph: close() the watch first"
        )

    return Eager


class Steps:
    """The steps of all optimizers, for all watches.

    PyTorch's hooks for these are in a dict of the whole process that nobody may change while
    any optimizer steps: in another thread, or in this one (a sink that closes its watch). So
    there is one pair of them, for good, and who listens is in a tuple that is replaced.
    """

    def __init__(self) -> None:
        self.listeners: tuple[tuple[Callable[..., None], Callable[..., None]], ...] = ()
        self.lock = Lock()
        register_optimizer_step_pre_hook(partial(self._call, 0))
        register_optimizer_step_post_hook(partial(self._call, 1))

    def listen(self, before: Callable[..., None], after: Callable[..., None]) -> "Listening":
        """Call ``(optimizer, args, kwargs)`` around every step until it is removed."""
        pair = (before, after)
        with self.lock:
            self.listeners = (*self.listeners, pair)
        return Listening(self, pair)

    def _call(self, which: int, *given: Any) -> None:
        for pair in self.listeners:
            pair[which](*given)


class Listening:
    """What `Steps.listen` gives."""

    def __init__(self, steps: Steps, pair: Any) -> None:
        self.steps, self.pair = steps, pair

    def remove(self) -> None:
        """Listen no more."""
        with self.steps.lock:
            rest = (pair for pair in self.steps.listeners if pair is not self.pair)
            self.steps.listeners = tuple(rest)


@cache
def all_steps() -> Steps:
    """The one `Steps` of this process."""
    return Steps()


_hanging: "WeakSet[Hooks]" = WeakSet()


def are_hanging() -> bool:
    """Whether any watch has its hooks on a model, so that the lines of models must run."""
    return bool(_hanging)


class Hooks:
    """All hooks of one watch, to be taken off together."""

    def __init__(self) -> None:
        self.handles: list[Any] = []
        self.known: dict[int, Any] = {}

    def _hang(self, handle: Any) -> None:
        self.handles.append(handle)
        _hanging.add(self)

    def is_new(self, thing: Any) -> bool:
        """Whether a module or parameter is asked about for the first time."""
        known = self.known.get(id(thing))
        if known is not None and known() is thing:
            return False
        self.known[id(thing)] = ref(thing)  # the id alone may come back with another object
        return True

    def before(self, module: nn.Module, function: Callable[..., None]) -> None:
        """Call ``function(module, args, kwargs)`` before every call of a module."""
        hook = eager_hook()(function)
        self._hang(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, function: Callable[..., None], eager: bool = False) -> None:
        """Call ``function(module, args, kwargs, output)`` after every call of a module.

        Args:
            module: the module.
            function: what to call.
            eager: interrupt compiled code for it.
        """
        hook = eager_hook()(function) if eager else Hook(function)
        self._hang(module.register_forward_hook(hook, with_kwargs=True))

    def on_gradient(self, parameter: nn.Parameter, function: Callable[..., None]) -> None:
        """Call ``function(parameter)`` whenever its gradient has been added to, once each."""
        if not self.is_new(parameter):
            return
        self._hang(parameter.register_post_accumulate_grad_hook(function))  # type: ignore[no-untyped-call]

    def on_step(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        """Call ``(optimizer, args, kwargs)`` around every step of any optimizer."""
        self._hang(all_steps().listen(before, after))

    def remove(self) -> None:
        """Take all of them off."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.known.clear()
        _hanging.discard(self)


def is_recording() -> bool:
    """Whether the model is being compiled or traced: our operations must not come along."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
