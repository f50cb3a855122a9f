"""`all_steps` calls listeners at the steps of all optimizers; `is_stepping` says if one runs."""

import sys
from functools import cache
from threading import Lock
from types import FrameType
from typing import Any
from weakref import ref

from torch._compile import _disable_dynamo
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)


class OptimizerSteps:
    """The steps of all optimizers, for all watches.

    PyTorch's hooks for these are in a dict of the whole process that nobody may change while
    any optimizer steps: in another thread, or in this one (a sink that closes its watch). So
    there is one pair of them, for good, and who listens is in a tuple that is replaced. It keeps
    nobody alive: a watch that was never closed goes with its model.
    """

    def __init__(self) -> None:
        self.listeners: tuple[ref[Any], ...] = ()
        self.lock = Lock()
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)

    def add(self, listener: Any) -> None:
        """Call ``before_step(optimizer, closure)`` and ``after_step(optimizer, closure)``."""
        with self.lock:
            self.listeners = (*self.listeners, ref(listener))

    def remove(self, listener: Any = None) -> None:
        """Call it no more, nor those that are gone."""
        with self.lock:
            here = ((each, each()) for each in self.listeners)
            self.listeners = tuple(e for e, o in here if o is not None and o is not listener)

    # a compiled step must not take our operations in; unlike the public function, this one loads
    # PyTorch's compiler only when it is called, and every optimizer has loaded it by then
    @_disable_dynamo
    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        for listener in self._alive():
            listener.before_step(optimizer, _closure(args, kwargs))

    @_disable_dynamo
    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        for listener in self._alive():
            listener.after_step(optimizer, _closure(args, kwargs))

    def _alive(self) -> list[Any]:
        alive = [found for each in self.listeners if (found := each()) is not None]
        if len(alive) < len(self.listeners):
            self.remove()
        return alive


def _closure(args: Any, kwargs: Any) -> Any:
    """What ``optimizer.step`` calls back for its gradients; None if it does not."""
    return args[1] if len(args) > 1 else kwargs.get("closure")


@cache
def all_steps() -> OptimizerSteps:
    """The one `OptimizerSteps` of this process."""
    return OptimizerSteps()


def is_stepping(optimizer: Any) -> bool:
    """Whether ``optimizer.step`` has called us: PyTorch tells nobody of steps that have failed."""
    frame: FrameType | None = sys._getframe() if optimizer is not None else None
    while frame is not None:
        if frame.f_locals.get("self") is optimizer:
            return True
        frame = frame.f_back
    return False
