"""`LayerWatch`: gradients through time of `nn.RNN`, `nn.GRU`, `nn.LSTM`, for our own trainer."""

from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from unrolled.torch import curves, fused
from unrolled.torch.hooks import Hooks
from unrolled.torch.parameter_names import named_parts


@dataclass
class _Called:
    """A call of a fused layer, and the gradients that have arrived at what it returned."""

    call: fused.Call
    end: torch.Tensor
    carried: bool
    cut: bool
    gradients: dict[Any, torch.Tensor] = field(default_factory=dict)

    def arrive(self, key: Any, place: int, gradients: tuple[torch.Tensor | None, ...]) -> None:
        """A gradient has arrived at result ``place`` of an operation."""
        gradient, before = gradients[place], self.gradients.get(key)
        if gradient is not None:
            now = gradient.detach()
            self.gradients[key] = now if before is None else before + now


class LayerWatch:
    """Gradients through time of the fused layers of a model, at chosen minibatches.

    Between `start` and `curves` there are hooks on the model, else none.

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
        >>> len(watched.curves()["gru"].numbers)  # three of every step, and one
        22
    """

    def __init__(self, model: nn.Module) -> None:
        named, _ = named_parts(model)
        self.modules = {name: module for name, module in named if isinstance(module, fused.FUSED)}
        self.notes: dict[str, str] = {}
        self._hooks = Hooks()
        self._begin()

    def start(self) -> None:
        """Look at the forward and backward passes that come."""
        self._hooks.remove()
        self._begin()
        for name, module in self.modules.items():
            self._hooks.before(module, partial(self._before, name))
            self._hooks.after(module, partial(self._after, name), eager=True)

    def curves(self) -> dict[str, curves.Curves]:
        """What was found since `start`, by the modules' names."""
        self._hooks.remove()
        found: dict[str, curves.Curves] = {}
        for label, sequence in self._sequences.items():
            if not any(called.gradients for called in sequence) or not sequence[0].end.numel():
                continue
            calls = [(called.call, called.gradients) for called in sequence]
            try:
                found |= curves.of_fused(label, calls, _borders(sequence), self.notes)
            except RuntimeError as error:  # what PyTorch says of tensors that cannot be looked at
                self.notes[label] = f"not traced: {type(error).__name__}: {error}"
        self._begin()
        return found

    def _begin(self) -> None:
        self._rng: dict[str, torch.Tensor] = {}
        self._sequences: dict[str, list[_Called]] = {}

    def _before(self, name: str, layer: Any, args: Any, kwargs: Any) -> None:
        if fused.draws(layer):
            self._rng[name] = fused.rng_state(layer._flat_weights[0].device)

    def _after(self, name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        if why := fused.why_not(layer):
            self.notes[name] = why
            return
        found = fused.of_hook(layer, args, kwargs, output, self._rng.pop(name, None))
        if found is None:
            return
        call, first, tensors = found
        cut = first is not None and first.grad_fn is None and not isinstance(first, nn.Parameter)
        carried = cut and first is not None and bool(first.any())
        called = _Called(call, tensors[0].detach(), carried, cut)
        self._sequence(name, first).append(called)
        for key, tensor in tensors.items():
            if (node := tensor.grad_fn) is not None:
                node.register_prehook(partial(called.arrive, key, tensor.output_nr))

    def _sequence(self, name: str, first: torch.Tensor | None) -> list[_Called]:
        """The calls that one with this first state goes on with; none if it begins anew."""
        number = 1
        while (label := name if number == 1 else f"{name}#{number}") in self._sequences:
            end = self._sequences[label][-1].end  # kept, so nothing else has its memory
            if first is not None and first.data_ptr() == end.data_ptr():
                return self._sequences[label]
            number += 1
        return self._sequences.setdefault(label, [])


def _borders(sequence: list[_Called]) -> tuple[int, ...]:
    """Time steps before which the gradient was cut."""
    starts = [0, *accumulate(len(called.call.batch_sizes) for called in sequence[:-1])]
    within = (start for start, called in zip(starts[1:], sequence[1:], strict=True) if called.cut)
    return (*((0,) if sequence[0].carried else ()), *within)


def watch_layers(model: Any) -> LayerWatch | None:
    """A `LayerWatch` of a model, None if it has no fused layers."""
    watched = LayerWatch(model) if isinstance(model, nn.Module) else None
    return watched if watched is not None and watched.modules else None
