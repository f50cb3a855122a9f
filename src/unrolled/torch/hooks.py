"""Hooks that come off again, and that no copy of a model takes along."""

from collections.abc import Callable
from functools import cache
from typing import Any

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

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, ()


@cache
def eager_hook() -> type[Hook]:
    """A hook that runs outside of compiled code; PyTorch's compiler loads when first asked."""

    class Eager(Hook):
        __call__ = torch.compiler.disable(Hook.__call__)  # type: ignore[no-untyped-call]

    return Eager


class Hooks:
    """All hooks of one watch, to be taken off together."""

    def __init__(self) -> None:
        self.handles: list[Any] = []
        self.parameters: set[int] = set()

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
        if id(parameter) in self.parameters:
            return
        self.parameters.add(id(parameter))
        handle = parameter.register_post_accumulate_grad_hook(function)  # type: ignore[no-untyped-call]
        self.handles.append(handle)

    def on_step(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        """Call ``(optimizer, args, kwargs)`` around every step of any optimizer."""
        self.handles.append(register_optimizer_step_pre_hook(before))
        self.handles.append(register_optimizer_step_post_hook(after))

    def remove(self) -> None:
        """Take all of them off."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.parameters.clear()


def clean(name: str) -> str:
    """A module's or parameter's name without what wrappers have put in.

    Example:
        >>> clean("_orig_mod.module.rnn.weight_hh_l0")
        'rnn.weight_hh_l0'
    """
    parts = [part for part in name.split(".") if part != "_orig_mod"]
    return ".".join(parts[1:] if parts[:1] == ["module"] and len(parts) > 1 else parts)


def forget_compiled(model: nn.Module) -> None:
    """Have a compiled model compiled anew: compiled code does not know later hooks."""
    if any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    ):
        torch.compiler.reset()
