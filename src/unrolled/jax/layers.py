"""Recurrent language models of Flax's own layers."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unrolled.backends import jax as backend
from unrolled.checks import checked
from unrolled.errors import SettingError
from unrolled.jax.language_model import LanguageModel
from unrolled.models import language_model
from unrolled.models.layers import (
    check_apart,
    join_gates,
    layer_prefix,
    split_gates,
    with_prefix,
    without_prefix,
)

KINDS = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": (nn.OptimizedLSTMCell, nn.LSTMCell)}

GATES = {
    "rnn": {"h": ""},
    "gru": {"r": "r", "z": "z", "h": "n"},
    "lstm": {"i": "i", "f": "f", "c": "g", "o": "o"},
}
"""Our gates, in any order, and Flax's names: layer ``i<name>`` is the input's, ``h<name>`` the
state's."""


@checked
def recurrent_layer(cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1) -> Any:
    """Flax's own layer for a cell, `nn.RNN`; for several layers a tuple of them.

    Flax takes ``num_inputs`` from what a layer is first given.
    """
    cells = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
    layers = tuple(nn.RNN(cells[cell](num_hiddens)) for _ in range(num_layers))
    return layers if num_layers > 1 else layers[0]


class RNNModel(language_model.RNNModel, LanguageModel):  # type: ignore[misc]  # two forms of loss
    rnn_layer: Any  # nn.RNN or nn.Bidirectional, or a tuple of them, the lowest first
    vocab_size: int
    lr: float = 1.0

    def __post_init__(self) -> None:
        cells = [getattr(part, "cell", None) for _, _, part in self._parts()]
        kinds = {(type(cell), getattr(cell, "features", None)) for cell in cells}
        if len(kinds) > 1 or not any(isinstance(cells[0], kind) for kind in KINDS.values()):
            raise SettingError(
                "RNNModel takes nn.RNN or nn.Bidirectional layers of SimpleCell, GRUCell or "
                "LSTMCell, a tuple of them with equal cells for several; it was given "
                + ", ".join(sorted(f"{kind.__name__} of size {size}" for kind, size in kinds))
            )
        super().__post_init__()

    def setup(self) -> None:
        self.linear = nn.Dense(self.vocab_size)

    def forward(self, inputs: Any, state: Any = None) -> tuple[Any, Any]:
        Y = backend.xp.one_hot(inputs.T, self.vocab_size)  # (T, B, V)
        state = self.begin_state(inputs.shape[0]) if state is None else state
        pair = isinstance(state, tuple)
        # Flax's LSTM cells carry (C, H) where the state here is (H, C)
        old = zip(*reversed(state), strict=True) if pair else iter(state)
        new: list[Any] = []
        for layer in self._layers:
            both = isinstance(layer, nn.Bidirectional)
            carry = (next(old), next(old)) if both else next(old)
            carry, Y = layer(Y, initial_carry=carry, return_carry=True, time_major=True)
            new += carry if both else [carry]  # Y: (T, B, directions * H)
        logits = self.linear(Y.reshape(-1, Y.shape[-1]))  # (T * B, V)
        if not pair:
            return logits, jnp.stack(new)
        C, H = zip(*new, strict=True)
        return logits, (jnp.stack(H), jnp.stack(C))

    def begin_state(self, batch_size: int = 1, device: Any = None) -> Any:
        cells = [part.cell for _, _, part in self._parts()]
        zeros = jnp.zeros((len(cells), batch_size, cells[0].features), device=device)
        return (zeros, zeros) if self._cell == "lstm" else zeros

    def export_parameters(self) -> dict[str, Any]:
        native, gates = check_apart(super().export_parameters()), GATES[self._cell]
        values: dict[str, Any] = {}
        for prefix, path, part in self._parts():
            own, none = without_prefix(path, native), np.zeros(part.cell.features, np.float32)
            stacked = [  # (D, G * H), (H, G * H), (G * H,), (G * H,)
                np.concatenate(
                    [own.get(f"{side}{gate}.{kind}", none) for gate in gates.values()], axis=-1
                )
                for kind, side in (("kernel", "i"), ("kernel", "h"), ("bias", "i"), ("bias", "h"))
            ]
            values |= with_prefix(prefix, split_gates(self._cell, "".join(gates), *stacked))
        return values | {"W_hq": native["linear.kernel"], "b_q": native["linear.bias"]}

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        native = {"linear.kernel": values["W_hq"], "linear.bias": values["b_q"]}
        gates = GATES[self._cell]
        for prefix, path, _ in self._parts():
            stacked = join_gates(self._cell, "".join(gates), without_prefix(prefix, values))
            blocks = (np.split(array, len(gates), axis=-1) for array in stacked)
            for gate, W_x, W_h, b_x, b_h in zip(gates.values(), *blocks, strict=True):
                own = {f"i{gate}.kernel": W_x, f"h{gate}.kernel": W_h}
                if self._cell == "lstm":  # its one bias is on the side of the state
                    own[f"h{gate}.bias"] = b_x + b_h
                else:
                    own |= {f"i{gate}.bias": b_x, f"h{gate}.bias": b_h}
                native |= with_prefix(path, own)
        # Flax has not all of these biases; what it has not is zero
        return {name: native[name] for name in backend.places(self)}

    @property
    def _layers(self) -> tuple[Any, ...]:
        return self.rnn_layer if isinstance(self.rnn_layer, tuple) else (self.rnn_layer,)

    @property
    def _cell(self) -> str:
        """Our name of the layers' cell."""
        (_, _, part), *_ = self._parts()
        return next(name for name, kind in KINDS.items() if isinstance(part.cell, kind))

    def _parts(self) -> Iterator[tuple[str, str, Any]]:
        """Of every layer and direction: our prefix, Flax's prefix, the layer itself."""
        layers = self._layers
        for number, layer in enumerate(layers):
            path = f"rnn_layer_{number}" if isinstance(self.rnn_layer, tuple) else "rnn_layer"
            parts = {f"{path}.cell.": layer}
            if isinstance(layer, nn.Bidirectional):
                parts = {
                    f"{path}.{name}.cell.": getattr(layer, name)
                    for name in ("forward_rnn", "backward_rnn")
                }
            for direction, (name, part) in enumerate(parts.items()):
                yield layer_prefix(number, len(layers), direction, len(parts)), name, part
