"""Base class of layers that stack the gates of a layer: PyTorch's and Gluon's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unrolled.models.language_model import RNNModel
from unrolled.models.layer_options import array_named, check_no_bias
from unrolled.models.layers import (
    GATE_ORDERS,
    check_apart,
    join_gates,
    layer_prefix,
    split_gates,
    with_prefix,
    without_prefix,
)

GATES = GATE_ORDERS["torch"]


class StackedRNNModel(RNNModel):
    """An `RNNModel` whose ``self.rnn`` keeps four arrays for a layer and direction.

    They are ``(G * H, D)``, ``(G * H, H)``, ``(G * H,)``, ``(G * H,)`` for ``G`` gates, or the
    two matrices alone; ``self.linear`` keeps ``weight (V, H)`` and ``bias (V,)``.
    """

    cell: str
    num_layers: int
    num_directions: int

    def native_names(self, layer: int, direction: int) -> Sequence[str]:
        """What the framework calls the arrays, as parameters of this model."""
        raise NotImplementedError(f"{type(self).__name__} must define native_names()")

    def option_label(self) -> str:
        """See `unrolled.models.layer_options.option_label`; raises for what has no counterpart."""
        raise NotImplementedError(f"{type(self).__name__} must define option_label()")

    def export_parameters(self) -> dict[str, Any]:
        native = check_apart(super().export_parameters())
        values: dict[str, Any] = {}
        for prefix, names in self._parts():
            # (D, G * H), (H, G * H), (G * H,), (G * H,)
            arrays = [array_named(native, name).T for name in names]
            zeros = np.zeros_like(arrays[0][0])
            split = split_gates(self.cell, GATES[self.cell], *(arrays + 2 * [zeros])[:4])
            values |= with_prefix(prefix, split)
        return values | {
            "W_hq": array_named(native, "linear.weight").T,
            "b_q": array_named(native, "linear.bias"),
        }

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        native = {"linear.weight": values["W_hq"].T, "linear.bias": values["b_q"]}
        for prefix, names in self._parts():
            own = without_prefix(prefix, values)
            arrays = join_gates(self.cell, GATES[self.cell], own)
            if len(names) == 2:
                check_no_bias(self.cell, own, "bias")
            native |= {name: array.T for name, array in zip(names, arrays, strict=False)}
        return native

    def _parts(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Of every layer and direction: our prefix, and the framework's names."""
        label = self.option_label()
        for layer in range(self.num_layers):
            for direction in range(self.num_directions):
                prefix = layer_prefix(layer, self.num_layers, direction, self.num_directions)
                yield prefix + label, self.native_names(layer, direction)
