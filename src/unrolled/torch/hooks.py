"""Hooks that come off again, and that no copy of a model takes along."""

from collections.abc import Callable, Iterable
from functools import cache
from threading import Lock
from typing import Any
from weakref import WeakMethod, ref

import torch
from torch import nn
from torch._compile import _disable_dynamo
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


class Steps:
    """The steps of all optimizers, for all watches.

    PyTorch's hooks for these are in a dict of the whole process that nobody may change while
    any optimizer steps: in another thread, or in this one (a sink that closes its watch). So
    there is one pair of them, for good, and who listens is in a tuple that is replaced. It keeps
    nobody alive: a watch that was never closed goes with its model.
    """

    def __init__(self) -> None:
        self.listeners: tuple[Listening, ...] = ()
        self.lock = Lock()
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)

    def listen(self, before: Callable[..., None], after: Callable[..., None]) -> "Listening":
        """Call two methods with ``(optimizer, args, kwargs)`` around every step."""
        listening = Listening(self, before, after)
        with self.lock:
            self.listeners = (*self.listeners, listening)
        return listening

    # a compiled step must not take our operations in; unlike the public function, this one loads
    # PyTorch's compiler only when it is called, and every optimizer has loaded it by then
    @_disable_dynamo
    def _before(self, *given: Any) -> None:
        for listening in self.listeners:
            listening.call(listening.before, given)

    @_disable_dynamo
    def _after(self, *given: Any) -> None:
        for listening in self.listeners:
            listening.call(listening.after, given)


class Listening:
    """What `Steps.listen` gives."""

    def __init__(
        self, steps: Steps, before: Callable[..., None], after: Callable[..., None]
    ) -> None:
        self.steps = steps
        self.before, self.after = WeakMethod(before), WeakMethod(after)

    def call(self, method: WeakMethod[Callable[..., None]], given: tuple[Any, ...]) -> None:
        """Call a method, or listen no more if its object is gone."""
        function = method()
        if function is None:
            self.remove()
        else:
            function(*given)

    def remove(self) -> None:
        """Listen no more."""
        with self.steps.lock:
            rest = (listening for listening in self.steps.listeners if listening is not self)
            self.steps.listeners = tuple(rest)


@cache
def all_steps() -> Steps:
    """The one `Steps` of this process."""
    return Steps()


def are_on(model: Any, parameters: Iterable[torch.Tensor]) -> bool:
    """Whether any hooks of ours hang on a model, so that its lines must run.

    Args:
        model: a module, or anything else that has parameters.
        parameters: what of it is trained; people's own hooks that use up gradients as they come
            count as well.
    """
    if any(parameter._post_accumulate_grad_hooks for parameter in parameters):
        return True
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return any(
        isinstance(hook, Hook) and hook.function is not None
        for module in modules
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    )


class Hooks:
    """All hooks of one watch, to be taken off together."""

    def __init__(self) -> None:
        self.handles: list[Any] = []
        self.known: dict[int, Any] = {}

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
        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, function: Callable[..., None], eager: bool = False) -> None:
        """Call ``function(module, args, kwargs, output)`` after every call of a module.

        Args:
            module: the module.
            function: what to call.
            eager: interrupt compiled code for it.
        """
        hook = eager_hook()(function) if eager else Hook(function)
        self.handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def on_gradient(self, parameter: nn.Parameter, function: Callable[..., None]) -> None:
        """Call ``function(parameter)`` whenever its gradient has been added to, once each."""
        if not self.is_new(parameter):
            return
        self.handles.append(parameter.register_post_accumulate_grad_hook(function))  # type: ignore[no-untyped-call]

    def on_step(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        """Call ``(optimizer, args, kwargs)`` around every step of any optimizer."""
        self.handles.append(all_steps().listen(before, after))

    def remove(self) -> None:
        """Take all of them off."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.known.clear()


def is_recording() -> bool:
    """Whether the model is being compiled or traced: our operations must not come along."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
