"""`Copies` has watched modules copied and pickled without the hooks of the watch."""

import copyreg
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from torch import nn

Clean = Callable[[dict[str, Any]], dict[str, Any]]


class Copies:
    """Has the modules of a class copied and pickled without what watches have put on them.

    Python asks `copyreg` for the way to copy an object of a class; `copy`, `pickle`,
    `torch.save` and `multiprocessing` all do.

    Args:
        clean: from the attributes of a module, those without a watch.
    """

    def __init__(self, clean: Clean) -> None:
        self.clean, self.lock = clean, Lock()
        self.watched: Counter[type] = Counter()
        self.before: dict[type, Any] = {}

    def begin(self, kinds: Iterable[type]) -> None:
        """Modules of these classes are watched from now on, one for each time it is named."""
        with self.lock:
            for kind in kinds:
                if not self.watched[kind]:
                    self.before[kind] = copyreg.dispatch_table.get(kind)
                    copyreg.dispatch_table[kind] = self._reduce
                self.watched[kind] += 1

    def end(self, kinds: Iterable[type]) -> None:
        """They are not any more."""
        with self.lock:
            for kind in kinds:
                self.watched[kind] -= 1
                if self.watched[kind]:
                    continue
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
