"""``RNNModel``: a language model around one of Flax's recurrent layers, and `recurrent_layer`."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from unrolled.backends import jax as backend
from unrolled.checks import checked
from unrolled.errors import SettingError
from unrolled.functional.recurrent import CELLS
from unrolled.jax.language_model import IdsModule
from unrolled.models import rnn_model
from unrolled.models.layer_options import array_named, check_layer, option_label
from unrolled.models.weights import check_apart, layer_prefix, with_prefix

KINDS = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": (nn.OptimizedLSTMCell, nn.LSTMCell)}

GATES = {
    "rnn": {"h": ""},
    "gru": {"r": "r", "z": "z", "h": "n"},
    "lstm": {"i": "i", "f": "f", "c": "g", "o": "o"},
}
"""Our gates, in any order, and Flax's names: layer ``i<name>`` is the input's, ``h<name>`` the
state's."""

BIASED = {"rnn": "i", "gru": "i", "lstm": "h"}
"""The side that has a gate's bias; the GRU's candidate has one on either side."""

HARMLESS = {"parent", "name", "features", "dtype", "param_dtype"}
"""Fields of a cell that change no function, beside those that say how its arrays begin."""

MERGE = nn.Bidirectional.merge_fn
"""Puts both directions side by side."""

FUNCTIONS = {
    "tanh": (nn.tanh, jnp.tanh, jax.lax.tanh),
    "sigmoid": (nn.sigmoid, jax.lax.logistic),
    "relu": (nn.relu,),
    "hard_sigmoid": (nn.hard_sigmoid,),
    "elu": (nn.elu,),
    "silu": (nn.silu,),
    "softplus": (nn.softplus,),
    "softsign": (nn.soft_sign,),
}
"""Flax's functions by Keras' names, where both compute the same."""


def label_of(layer: Any) -> str:
    """See `unrolled.models.layer_options.option_label`; raises for what has no counterpart."""
    cell = layer.cell
    check_layer(layer, (nn.RNN,))
    check_layer(cell, (nn.SimpleCell, nn.GRUCell, nn.OptimizedLSTMCell, nn.LSTMCell))
    options = {
        field.name: getattr(cell, field.name)
        for field in fields(cell)
        if field.name not in HARMLESS
        and not field.name.endswith("_init")
        and getattr(cell, field.name) is not field.default
    }
    return option_label(cell, options, FUNCTIONS)


@checked
def recurrent_layer(cell: str, num_inputs: int, num_hiddens: int, num_layers: int = 1) -> Any:
    """Flax's own layer for a cell, `nn.RNN`; for several layers a tuple of them.

    Flax takes ``num_inputs`` from what a layer is first given.
    """
    cells = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
    layers = tuple(nn.RNN(cells[cell](num_hiddens)) for _ in range(num_layers))
    return layers if num_layers > 1 else layers[0]


class RNNModel(rnn_model.RNNModel, IdsModule):  # type: ignore[misc]  # two forms of loss
    rnn_layer: Any  # nn.RNN or nn.Bidirectional, or a tuple of them, the lowest first
    vocab_size: int
    lr: float = 1.0

    def __post_init__(self) -> None:
        cells = [getattr(part, "cell", part) for _, _, part in self._parts()]
        kinds = {(type(cell), getattr(cell, "features", None)) for cell in cells}
        if len(kinds) > 1 or not any(isinstance(cells[0], kind) for kind in KINDS.values()):
            raise SettingError(
                "RNNModel takes nn.RNN or nn.Bidirectional layers of SimpleCell, GRUCell or "
                "LSTMCell, a tuple of them with equal cells for several; it was given "
                + ", ".join(sorted(f"{kind.__name__} of size {size}" for kind, size in kinds))
            )
        for layer in self._layers:
            if getattr(layer, "reverse", False):
                raise SettingError(
                    "the nn.RNN has reverse=True, and RNNModel predicts every character from those "
                    "before it: leave reverse out, or take nn.Bidirectional"
                )
            if getattr(layer, "merge_fn", MERGE) is not MERGE:
                raise SettingError(
                    "the nn.Bidirectional has a merge_fn, and RNNModel reads the hidden states of "
                    "both directions side by side: leave merge_fn out"
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
        native = check_apart(super().export_parameters())
        return {name: array_named(native, own) for name, own in self._native_names().items()}

    def native_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {own: values[name] for name, own in self._native_names().items()}

    def _native_names(self) -> dict[str, str]:
        """Flax's name of every parameter, by ours."""
        names: dict[str, str] = {}
        biased = BIASED[self._cell]
        for layer in self._layers:
            check_layer(layer, (nn.RNN, nn.Bidirectional))
        for prefix, path, part in self._parts():
            own = {"b_hh": "hn.bias"}
            for gate, flax in GATES[self._cell].items():
                own |= {f"W_x{gate}": f"i{flax}.kernel", f"W_h{gate}": f"h{flax}.kernel"}
                own[f"b_{gate}"] = f"{biased}{flax}.bias"
            label = prefix + label_of(part)
            weights = CELLS[self._cell].weights
            names |= with_prefix(label, {weight: path + own[weight] for weight in weights})
        return names | {"W_hq": "linear.kernel", "b_q": "linear.bias"}

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
