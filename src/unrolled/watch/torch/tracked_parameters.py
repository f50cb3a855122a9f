"""`TrackedParameters`: the trained parameters of a watched model, each with a hook."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from unrolled.torch.through_time.hooks import Hooks
from unrolled.watch.torch.step import Named


class TrackedParameters:
    """Parameters by name, and names by their ids; a hook tells when their gradients have changed.

    Those that are left out are not trained, or have no shape so far, and may be later.
    """

    def __init__(self, hooks: Hooks, on_gradient: Callable[..., None]) -> None:
        self.hooks, self.on_gradient = hooks, on_gradient
        self.parameters: Named = {}
        self.names: dict[int, str] = {}
        self.left_out: list[nn.Parameter] = []

    def take(self, named: list[tuple[str, nn.Parameter]]) -> None:
        """These are the model's parameters now."""
        self.parameters = {name: p for name, p in named if _is_trained(p)}
        self.left_out = [p for _, p in named if not _is_trained(p)]
        self.names = {id(p): name for name, p in self.parameters.items()}
        for parameter in self.parameters.values():
            self.hooks.on_gradient(parameter, self.on_gradient)

    def have_changed(self) -> bool:
        """Return whether parameters that were left out are trained by now."""
        return any(map(_is_trained, self.left_out))

    def held_by(self, optimizer: Any) -> Named:
        """Return the parameters that an optimizer moves."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {name: p for name, p in self.parameters.items() if id(p) in held}


def _is_trained(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and not is_lazy(parameter)
