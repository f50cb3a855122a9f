"""`ModuleHooks` hooks the modules of a watched model according to their classes."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from unrolled.torch.fused import FUSED
from unrolled.torch.hooks import Hooks
from unrolled.watch.torch.calls import CELL_MODES
from unrolled.watch.torch.named_states import NamedStates, UnnamedStates
from unrolled.watch.torch.recurrences import Recurrences

WhenSeen = Callable[..., Callable[..., None]]
"""From what to call, a name, and what to call on steps that are not recorded: a hook."""


class ModuleHooks:
    """Hooks modules, each once.

    Args:
        hooks: those of the watch.
        when_seen: makes the hooks.
        recurrences: told of the calls of recurrent modules; None leaves them alone.
        named: told of the calls of modules whose state is named.
        after_leaf: called after modules without modules inside.
        notes: where to say what is not looked into and why.
    """

    def __init__(
        self,
        hooks: Hooks,
        when_seen: WhenSeen,
        recurrences: Recurrences | None,
        named: NamedStates,
        after_leaf: Callable[..., None],
        notes: dict[str, str],
    ) -> None:
        self.hooks, self.when_seen, self.recurrences = hooks, when_seen, recurrences
        self.named, self.unnamed = named, UnnamedStates(notes)
        self.after_leaf, self.notes = after_leaf, notes

    def add(self, name: str, module: nn.Module) -> None:
        """Hook a module, if it has no hooks so far."""
        if not self.hooks.is_new(module):
            return
        if isinstance(module, torch.jit.ScriptModule):
            self._leave_out(name, module)
            return
        opaque = isinstance(module, FUSED) or is_cell(module)
        if self.recurrences is not None:
            self._add_recurrent(name, module, self.recurrences, opaque)
        if not list(module.children()):
            # those of an opaque module run in between compiled code, not inside it
            self.hooks.after(module, self.when_seen(self.after_leaf, name), eager=opaque)

    def _add_recurrent(self, name: str, module: nn.Module, seen: Recurrences, opaque: bool) -> None:
        if name in self.named.named:
            hook = self.when_seen(self.named.after, name, self.named.after_unseen)
            self.hooks.after(module, hook)
        elif isinstance(module, FUSED):
            self.hooks.before(module, self.when_seen(seen.before_fused, name))
            hook = self.when_seen(seen.after_fused, name, seen.after_unseen)
            self.hooks.after(module, hook, eager=True)
        elif opaque:
            hook = self.when_seen(seen.after_cell, name, seen.after_unseen)
            self.hooks.after(module, hook, eager=True)
        elif not (_is_known(module) or self.named.are_in(module)):
            self.hooks.after(module, self.when_seen(self.unnamed.after, name))

    def _leave_out(self, name: str, module: nn.Module) -> None:
        """A module that takes no hooks, and all in it; their parameters have some of their own."""
        self.notes[name] = "not looked into, it is compiled by torch.jit: its weights are recorded"
        for part in module.modules():
            self.hooks.is_new(part)


def _is_known(module: nn.Module) -> bool:
    """Return whether a module is PyTorch's, or has its recurrence in one of those inside it."""
    parts = module.modules()
    return kind_of(module).__module__.startswith("torch.") or any(
        isinstance(part, FUSED) or is_cell(part) for part in parts
    )


def kind_of(module: nn.Module) -> type:
    """The class of a module; PyTorch makes a new one where weights are parametrized."""
    kind = type(module)
    return kind.__bases__[0] if is_parametrized(module) else kind


def is_cell(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's cells, also one whose weights are parametrized."""
    return kind_of(module) in CELL_MODES
