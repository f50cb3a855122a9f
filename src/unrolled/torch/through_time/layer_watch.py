"""`LayerWatch`: gradients through time of `nn.RNN`, `nn.GRU`, `nn.LSTM`, for our own trainer."""

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from unrolled.torch.through_time.curves import Curves, of_fused
from unrolled.torch.through_time.fused_call import FUSED
from unrolled.torch.through_time.hooks import Hooks
from unrolled.torch.through_time.parameter_names import named_parts
from unrolled.torch.through_time.recurrences import Recurrences

if TYPE_CHECKING:
    from unrolled.torch.data_parallel import DataParallel


class LayerWatch:
    """Gradients through time of the fused layers of a model, at chosen minibatches.

    Between `start` and `curves` there are hooks on the model, else none.

    ``together`` are other processes that have a part of the minibatch each; ``notes`` says by
    layer what could not be traced and why.
    """

    def __init__(self, model: nn.Module, together: "DataParallel | None" = None) -> None:
        named, _ = named_parts(model)
        self.modules = {name: module for name, module in named if isinstance(module, FUSED)}
        self.notes: dict[str, str] = {}
        curves_of = partial(of_fused, together=together)
        self.recurrences = Recurrences(self.notes, sees_all=False, curves_of_fused=curves_of)
        self._hooks = Hooks()

    def start(self) -> None:
        """Look at the forward and backward passes that come."""
        self._hooks.remove()
        self.recurrences.clear()
        for name, module in self.modules.items():
            self._hooks.before(module, partial(self.recurrences.before_fused, name))
            self._hooks.after(module, partial(self.recurrences.after_fused, name), eager=True)

    def curves(self) -> dict[str, Curves]:
        """What was found since `start`, by the modules' names."""
        self._hooks.remove()
        self.recurrences.after_backward()
        found = self.recurrences.found
        self.recurrences.clear()
        return found


def watch_layers(model: Any, together: "DataParallel | None" = None) -> LayerWatch | None:
    """A `LayerWatch` of a model, None if it has no fused layers."""
    watched = LayerWatch(model, together) if isinstance(model, nn.Module) else None
    return watched if watched is not None and watched.modules else None
