"""`Hooks` on modules and parameters that come off again, and that no copy keeps.

Compiled code does not ask whether a module has hooks. What was compiled before a watch would run
in a watched model, and the other way round, as models of a class share their code. But it does
ask of what type the dict of a module's parameters is. So as long as a module has hooks that must
interrupt compiled code, that dict is of another type: nothing compiled has to be thrown away, and
what was compiled before the watch is used again after it.
"""

import copyreg
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any
from weakref import ref

import torch
from torch import nn

PARAMETERS = "_parameters"

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
"""Attributes with a module's hooks; ``<name>_with_kwargs`` says how to call them."""


class Hook:
    """A hook on a module; a copy or pickle of the module gets one that does nothing."""

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


def set_apart(module: nn.Module) -> None:
    """Give the dict of a module's parameters the other type, or the first one back."""
    vars(module)[PARAMETERS] = swapped(vars(module)[PARAMETERS])


def swapped(parameters: dict[str, Any]) -> dict[str, Any]:
    """A copy of the dict in the other of the two types that PyTorch has used for it."""
    return dict(parameters) if isinstance(parameters, OrderedDict) else OrderedDict(parameters)


def interrupts(attributes: dict[str, Any]) -> bool:
    """Whether a module of these attributes has hooks of ours that interrupt compiled code."""
    hooks = (hook for name in HOOKS for hook in attributes[name].values())
    return any(isinstance(hook, Hook) and type(hook) is not Hook for hook in hooks)


def without_hooks(attributes: Any) -> Any:
    """The attributes of a module without what watches have put there; anything else as it is."""
    if not isinstance(attributes, dict) or HOOKS[0] not in attributes:
        return attributes
    attributes = dict(attributes)
    if interrupts(attributes):
        attributes[PARAMETERS] = swapped(attributes[PARAMETERS])
    for name in HOOKS:
        ours = {key for key, hook in attributes[name].items() if isinstance(hook, Hook)}
        for each in (name, f"{name}_with_kwargs"):
            left = [(key, value) for key, value in attributes[each].items() if key not in ours]
            attributes[each] = OrderedDict(left)
    return attributes


class Copies:
    """Changes how modules of a class are copied and pickled.

    Python asks `copyreg` for the way to copy an object of a class; `copy`, `pickle`,
    `torch.save` and `multiprocessing` all do.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.watched: Counter[type] = Counter()
        self.before: dict[type, Any] = {}

    def begin(self, kind: type) -> None:
        """One more module of this class is watched."""
        with self.lock:
            if not self.watched[kind]:
                self.before[kind] = copyreg.dispatch_table.get(kind)
                copyreg.dispatch_table[kind] = self._reduce
            self.watched[kind] += 1

    def end(self, kind: type) -> None:
        """One module of this class is not watched any more."""
        with self.lock:
            self.watched[kind] -= 1
            if self.watched[kind]:
                return
            before = self.before.pop(kind)
            if before is None:
                del copyreg.dispatch_table[kind]
            else:
                copyreg.dispatch_table[kind] = before

    def _reduce(self, module: nn.Module) -> Any:
        own = self.before.get(type(module))
        reduced = module.__reduce_ex__(2) if own is None else own(module)
        if isinstance(reduced, str):
            return reduced
        function, arguments, *rest = reduced
        return (function, tuple(map(without_hooks, arguments)), *map(without_hooks, rest))


copies = Copies()


class Hooks:
    """All hooks of one watch, to be taken off together."""

    def __init__(self) -> None:
        self.handles: list[Any] = []
        self.known: dict[int, Any] = {}
        self.modules: list[tuple[ref[nn.Module], type]] = []

    def is_new(self, thing: Any) -> bool:
        """Whether a module or parameter is asked about for the first time."""
        known = self.known.get(id(thing))
        if known is not None and known() is thing:
            return False
        self.known[id(thing)] = ref(thing)  # the id alone may come back with another object
        return True

    def before(self, module: nn.Module, function: Callable[..., None]) -> None:
        """Call ``function(module, args, kwargs)`` before every call of a module."""
        self._add(module, module.register_forward_pre_hook, eager_hook()(function))

    def after(self, module: nn.Module, function: Callable[..., None], eager: bool = False) -> None:
        """Call ``function(module, args, kwargs, output)`` after every call of a module."""
        hook = eager_hook()(function) if eager else Hook(function)
        self._add(module, module.register_forward_hook, hook)

    def _add(self, module: nn.Module, register: Callable[..., Any], hook: Hook) -> None:
        is_apart = interrupts(vars(module))
        self.handles.append(register(hook, with_kwargs=True))
        if not is_apart and interrupts(vars(module)):
            set_apart(module)
        self.modules.append((ref(module), type(module)))
        copies.begin(type(module))

    def on_gradient(self, parameter: nn.Parameter, function: Callable[..., None]) -> None:
        """Call ``function(parameter)`` whenever its gradient has been added to, once each."""
        if self.is_new(parameter):
            register = parameter.register_post_accumulate_grad_hook
            self.handles.append(register(function))  # type: ignore[no-untyped-call]

    def remove(self) -> None:
        """Take all of them off."""
        here = (each() for each, _ in self.modules)
        modules = {id(module): module for module in here if module is not None}
        apart = [module for module in modules.values() if interrupts(vars(module))]
        for handle in self.handles:
            handle.remove()
        for module in apart:
            if not interrupts(vars(module)):
                set_apart(module)
        for _, kind in self.modules:
            copies.end(kind)
        for each in (self.handles, self.known, self.modules):
            each.clear()
