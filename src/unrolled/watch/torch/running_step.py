"""`RunningStep` tells nested and failed calls of ``optimizer.step`` apart."""

from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import Any

from unrolled.watch.torch.optimizer_steps import has_closure


class RunningStep:
    """From an optimizer's pre-hook to its post-hook, which an error may leave out.

    Attributes:
        optimizer: whose step it is; None between steps.
        with_closure: whether it calls back for its gradients.
        moved: whether another optimizer that it called has stepped.
    """

    def __init__(self) -> None:
        self.optimizer: Any = None
        self._inner: Any = None
        self._thread = self._inside = 0
        self.moved = self.with_closure = False

    def begin(self, optimizer: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """A step begins; the arguments to call it with, if they are others."""
        self.optimizer, self._inner, self._thread, self._inside = optimizer, None, get_ident(), 0
        self.moved = False
        self.with_closure = has_closure(args, kwargs)
        if not self.with_closure:
            return None
        if len(args) > 1:
            return (args[0], self._watched(args[1]), *args[2:]), kwargs
        return args, {**kwargs, "closure": self._watched(kwargs["closure"])}

    def end(self) -> None:
        """The step is over."""
        self.optimizer = self._inner = None

    def calls(self, optimizer: Any, mine: set[str], its: set[str]) -> bool:
        """Whether the step of another optimizer, which begins now, is part of this one.

        Args:
            optimizer: the other one.
            mine: parameters that this one moves.
            its: those that the other one moves.
        """
        if optimizer is self.optimizer or not its <= mine:
            return False
        self._inner = optimizer
        return True

    def called(self, optimizer: Any) -> None:
        """The step of an optimizer that is part of this one is over, and has moved weights."""
        self.moved |= optimizer is self._inner

    def has_failed(self) -> bool:
        """Whether the step has ended in an error, as a pass of the model begins now.

        Within a step nobody but its closure runs the model.
        """
        return self.optimizer is not None and not self._inside and get_ident() == self._thread

    def _watched(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        @wraps(closure)
        def call() -> Any:
            self._inside += 1
            try:
                return closure()
            finally:
                self._inside -= 1

        return call
