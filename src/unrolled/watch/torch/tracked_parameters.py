"""The parameters of a watched model that are trained; a model may get others at any time."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from unrolled.watch.torch.hooks import Hooks
from unrolled.watch.torch.optimizer_steps import Named
from unrolled.watch.torch.parameter_names import named_parts


class TrackedParameters:
    """Parameters by name, with a hook on each.

    Args:
        hooks: those of the watch.
        on_gradient: called with a parameter whenever its gradient has been added to.

    Attributes:
        parameters: by name.
        names: by the parameters' ids.
        frozen: those that are not trained, and may be later.
        has_lazy: whether some have no shape so far.
    """

    def __init__(self, hooks: Hooks, on_gradient: Callable[..., None]) -> None:
        self.hooks, self.on_gradient = hooks, on_gradient
        self.parameters: Named = {}
        self.names: dict[int, str] = {}
        self.frozen: list[nn.Parameter] = []
        self.has_lazy = False

    def take(self, named: list[tuple[str, nn.Parameter]]) -> None:
        """These are the model's parameters now."""
        trained = [(name, p) for name, p in named if p.requires_grad]
        self.frozen = [p for _, p in named if not p.requires_grad]
        self.parameters = {name: p for name, p in trained if not is_lazy(p)}
        self.has_lazy = len(self.parameters) < len(trained)
        self.names = {id(p): name for name, p in self.parameters.items()}
        for parameter in self.parameters.values():
            self.hooks.on_gradient(parameter, self.on_gradient)

    def take_unfrozen(self, model: nn.Module) -> Named:
        """Those that have been unfrozen since, which may be at any time."""
        if not any(p.requires_grad for p in self.frozen):
            return {}
        before = self.parameters
        self.take(named_parts(model)[1])
        return {name: p for name, p in self.parameters.items() if name not in before}

    def held_by(self, optimizer: Any) -> Named:
        """Those that an optimizer moves."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {name: p for name, p in self.parameters.items() if id(p) in held}

    def lacks(self, optimizer: Any, model: nn.Module) -> bool:
        """Whether an optimizer moves parameters of the model that are not known here."""
        held = (p for group in optimizer.param_groups for p in group["params"])
        new = {id(p) for p in held if p.requires_grad and id(p) not in self.names}
        return bool(new) and any(id(p) in new for p in model.parameters())
