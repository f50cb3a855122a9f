"""PyTorch's compiler and hooks: compiled code does not know of hooks that came later."""

import sys
from threading import Lock
from weakref import WeakSet

import torch

GUARDS = "skip_nnmodule_hook_guards"


class HookGuards:
    """Has the compiler look at modules' hooks as long as any watch is open.

    Models of a class share their compiled code, and by default it is not asked whether they
    have the same hooks: what was compiled for a model without any would run in a watched one.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.watches: WeakSet[object] = WeakSet()  # one may go with its model, unclosed
        self.before: bool | None = None

    def begin(self, watch: object) -> None:
        """A watch has opened, with all its hooks."""
        with self.lock:
            self.watches.add(watch)
            # where it is not loaded, no hook is one that has to interrupt compiled code
            if self.before is None and "torch._dynamo" in sys.modules:
                self.before = getattr(torch._dynamo.config, GUARDS)
                setattr(torch._dynamo.config, GUARDS, False)
        forget_compiled()

    def end(self, watch: object) -> None:
        """A watch has closed."""
        with self.lock:
            self.watches.discard(watch)
            if not self.watches and self.before is not None:
                setattr(torch._dynamo.config, GUARDS, self.before)
                self.before = None
        forget_compiled()


hook_guards = HookGuards()


def forget_compiled() -> None:
    """Have all be compiled anew, if anything was: of any model, for classes share their code."""
    compiler = sys.modules.get("torch._dynamo.convert_frame")
    if compiler is not None and compiler.input_codes.seen:
        torch.compiler.reset()
