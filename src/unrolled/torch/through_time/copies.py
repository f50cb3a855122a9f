"""`Copies` has watched modules copied and pickled without the hooks of the watch."""

import copyreg
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import Any

from torch import nn


class Copies:
    """Changes how modules of a class are copied and pickled.

    Python asks `copyreg` for the way to copy an object of a class; `copy`, `pickle`,
    `torch.save` and `multiprocessing` all do. ``clean`` takes the watch out of a module's
    attributes.
    """

    def __init__(self, clean: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.clean, self.lock = clean, Lock()
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
        return (function, tuple(map(self._clean, arguments)), *map(self._clean, rest))

    def _clean(self, part: Any) -> Any:
        is_module = isinstance(part, dict) and "_forward_hooks" in part
        return self.clean(part) if is_module else part
