"""A look into PyTorch's own recurrent layers for the project's trainer."""

from functools import partial
from typing import Any

from torch import nn

from unrolled.telemetry.records import LayerRecord
from unrolled.torch.assembly import layer_record
from unrolled.torch.fused import FUSED
from unrolled.torch.hooks import Hooks
from unrolled.torch.names import named_parts
from unrolled.torch.recurrences import Recurrences
from unrolled.torch.steps import to_floats


class LayerWatch:
    """Gradients through time of the fused layers of a model, at chosen minibatches.

    Between `start` and `layers` there are hooks on the model, else none.

    Args:
        model: a module.

    Attributes:
        notes: by layer, what could not be traced and why.

    Example:
        >>> import torch
        >>> model = torch.nn.GRU(3, 5)
        >>> watched = LayerWatch(model)
        >>> watched.start()
        >>> model(torch.ones(7, 2, 3))[0].sum().backward()
        >>> len(watched.layers()["gru"].hidden_gradient_mean)
        7
    """

    def __init__(self, model: nn.Module) -> None:
        named, _ = named_parts(model)
        self.modules = {name: module for name, module in named if isinstance(module, FUSED)}
        self.notes: dict[str, str] = {}
        self.recurrences = Recurrences(self.notes, all_seen=False)
        self.hooks = Hooks()

    def start(self) -> None:
        """Look at the forward and backward passes that come."""
        self.hooks.remove()
        self.recurrences.clear()
        for name, module in self.modules.items():
            self.hooks.before(module, partial(self.recurrences.before_fused, name))
            self.hooks.after(module, partial(self.recurrences.after_fused, name), eager=True)

    def layers(self) -> dict[str, LayerRecord]:
        """What was found since `start`, by the modules' names."""
        self.hooks.remove()
        self.recurrences.after_backward()
        found = self.recurrences.found
        self.recurrences.clear()
        numbers = to_floats({name: curves.numbers for name, curves in found.items()})
        known = {name: curves.gates for name, curves in found.items() if curves.gates is not None}
        gates = to_floats(known)
        return {
            name: layer_record(curves, numbers[name], gates=gates.get(name, ()))
            for name, curves in found.items()
        }


def watch_layers(model: Any) -> LayerWatch | None:
    """A `LayerWatch` of a model, None if it has no fused layers."""
    watched = LayerWatch(model) if isinstance(model, nn.Module) else None
    return watched if watched is not None and watched.modules else None
