"""``RNNModel``, framework-free: base classes of language models around a framework's own layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np

from unrolled.checks import check_ids
from unrolled.models.language_model import RecurrentLanguageModel
from unrolled.models.layer_options import array_named, check_no_bias
from unrolled.models.weights import (
    GATE_ORDERS,
    IMPORTING,
    check_apart,
    join_gates,
    layer_prefix,
    split_gates,
    with_prefix,
    without_prefix,
)

GATES = GATE_ORDERS["torch"]


def _reads_ids(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A model's ``forward`` that looks first whether it is given ids ``(B, T)``."""

    @wraps(forward)
    def checking(self: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        check_ids(self, inputs, "(B, T)")
        return forward(self, inputs, *rest, **named)

    return checking


class RNNModel(RecurrentLanguageModel):
    """A recurrent language model from the framework's own layer and a linear layer.

    Args:
        rnn_layer: the framework's RNN, GRU or LSTM layer with ``vocab_size`` inputs, of
            one or two directions and any number of layers. With two directions the
            model sees the characters that it shall predict: fine for tagging a text,
            useless for continuing one.
        vocab_size: ``V``.
        lr: learning rate of `configure_optimizers`.

    Calling the model, ``model(X, state)`` with ids ``X (B, T)``, gives logits
    ``(T * B, V)``, time-major, and the new state: ``(layers * directions, B, H)``, for
    an LSTM a pair of them.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in vars(cls) and cls.__module__.startswith("unrolled."):
            cls.forward = _reads_ids(cls.forward)  # type: ignore[method-assign]

    def import_parameters(self, values: Mapping[str, Any]) -> Any:
        """Take the values of all parameters from `export_parameters`, none of them tied.

        Returns:
            The model with these values: itself, but in JAX, where models cannot change.

        Raises:
            ParameterError: as of `Module.import_parameters`; or values are tied, which a
                layer that keeps its gates side by side cannot be.
        """
        return super().import_parameters(check_apart(values, IMPORTING))


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
