"""`Call`: the inputs, outputs and gradients of one call of `nn.RNN`, `nn.GRU`, `nn.LSTM`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

Tensors = tuple[torch.Tensor, ...]

FUSED = (nn.RNN, nn.GRU, nn.LSTM)

CELLS = {"RNN_TANH": "rnn", "RNN_RELU": "rnn_relu", "GRU": "gru", "LSTM": "lstm"}


@dataclass
class Call:
    """One call of a fused layer, and what the backward pass has brought to it.

    Attributes:
        layer: the module.
        X: the rows that it read, ``(N, D)``, time-major.
        batch_sizes: how many sequences are still running at each step.
        first: its first state, ``(layers * directions, B, H)`` each, in the order of the rows.
        Y: its outputs, ``(N, directions * H)``.
        weights: of each layer and direction what PyTorch keeps, W_ih, W_hh and maybe biases.
        inner: the type that it computed in; under autocast not always that of ``Y``.
        rng: state of the random generators before the call; None where nothing was drawn.
        drawn: their state after it.
        packed: whether it read a `PackedSequence`.
        order: which sequence each place of a packed batch holds; None for their own order.
        versions: how often each of its tensors had been written to by then.
        dY: gradient at ``Y``; None for 0, and before the backward pass.
        d_last: gradient at the last state's arrays, likewise.
    """

    layer: Any
    X: torch.Tensor
    batch_sizes: list[int]
    first: Tensors
    Y: torch.Tensor
    weights: list[list[torch.Tensor]]
    inner: torch.dtype
    rng: Any = None
    drawn: Any = None
    packed: bool = False
    order: torch.Tensor | None = None
    versions: dict[str, int] = field(default_factory=dict)
    dY: torch.Tensor | None = None
    d_last: list[torch.Tensor | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.versions = self._versions()

    def overwritten(self) -> set[str]:
        """Which of its tensors have been written to since the call."""
        return {name for name, now in self._versions().items() if now != self.versions[name]}

    def _versions(self) -> dict[str, int]:
        weights = [weight for part in self.weights for weight in part]
        parts = {"output": [self.Y], "input": [self.X], "state": self.first, "weights": weights}
        return versions_of(parts)

    @property
    def cell(self) -> str:
        """Its name in `bptt.STEPS`."""
        return CELLS[self.layer.mode]

    @property
    def directions(self) -> int:
        """2 if it reads backwards too."""
        return 2 if self.layer.bidirectional else 1


def versions_of(parts: Mapping[str, Iterable[torch.Tensor | None]]) -> dict[str, int]:
    """How often the tensors of each part have been written to."""
    return {
        name: sum(tensor._version for tensor in tensors if tensor is not None)
        for name, tensors in parts.items()
    }


def written_to(names: Iterable[str]) -> str:
    """The note for a call that cannot be traced, as these parts of it were written to."""
    return f"not traced: written to before the backward pass was over: {' and '.join(names)}"


def why_not(layer: Any) -> str | None:
    """Why a fused layer cannot be traced; None if it can."""
    if getattr(layer, "proj_size", 0):
        return "not traced: an LSTM with proj_size has no equations here"
    if type(layer).forward not in (kind.forward for kind in FUSED):
        return "not traced: its class has a forward of its own"
    return None


def begin(layer: Any, inputs: Any, state: Any, outputs: Any, rng: Any) -> Call:
    """A call from what went into the layer and came out of it.

    Args:
        layer: `nn.RNN`, `nn.GRU` or `nn.LSTM`.
        inputs: its first argument, a tensor or `PackedSequence`.
        state: its second, or None.
        outputs: what it returned, ``(Y, last state)``.
        rng: from `rng_state` before the call, if it draws. This here has to follow at once.
    """
    Y = outputs[0]
    packed = isinstance(inputs, PackedSequence)
    if packed:
        batch_sizes = [int(size) for size in inputs.batch_sizes]
        X, rows, order = inputs.data, Y.data, inputs.sorted_indices
    else:
        X, rows, order = time_major(layer, inputs), time_major(layer, Y), None
        batch_sizes = [X.shape[1]] * X.shape[0]
        X, rows = X.reshape(-1, X.shape[-1]), rows.reshape(-1, rows.shape[-1])  # (N, .)
    size = (layer.num_layers * (1 + layer.bidirectional), batch_sizes[0], layer.hidden_size)
    if state is None:
        first = tuple(X.new_zeros(size) for _ in range(1 + isinstance(layer, nn.LSTM)))
    else:
        first = tuple(
            in_row_order(part.detach().reshape(size), order)
            for part in (state if isinstance(state, tuple) else (state,))
        )
    names = layer._all_weights
    flat = dict(zip(layer._flat_weights_names, layer._flat_weights, strict=True))
    weights = [[flat[name].detach() for name in part] for part in names]
    device = rows.device.type
    half = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    inner = torch.get_autocast_dtype(device) if half else rows.dtype
    X, rows = X.detach(), rows.detach()
    drawn = None if rng is None else rng_state(layer._flat_weights[0].device)
    return Call(layer, X, batch_sizes, first, rows, weights, inner, rng, drawn, packed, order)


def of_hook(
    layer: Any, args: Any, kwargs: Any, output: Any, rng: Any
) -> tuple[Call, torch.Tensor | None, dict[Any, torch.Tensor]] | None:
    """A call from what a forward hook of the layer is given; None if no gradient can arrive.

    Args:
        layer, args, kwargs, output: as the hook has them.
        rng: see `begin`.

    Returns:
        The call; its first hidden state, None for zeros; and the tensors at which gradients
        arrive: its outputs under ``"Y"``, the arrays of its last state under 0 and 1.
    """
    inputs = args[0] if args else kwargs["input"]
    state = args[1] if len(args) > 1 else kwargs.get("hx")
    Y, last = output
    rows = Y.data if isinstance(Y, PackedSequence) else Y
    if not rows.requires_grad:
        return None
    ends = last if isinstance(last, tuple) else (last,)
    call = begin(layer, inputs, state, output, rng)
    first = state[0] if isinstance(state, tuple) else state
    return call, first, {"Y": rows, **dict(enumerate(ends))}


def time_major(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """``(T, B, .)`` of what a layer reads or writes, batched or not."""
    if x.dim() == 2:
        return x[:, None]
    return x.transpose(0, 1) if layer.batch_first else x


def in_row_order(state: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
    """A state ``(L, B, H)`` with its sequences in the order of a packed sequence's rows."""
    return state if order is None else state.index_select(1, order)


def draws(layer: Any) -> bool:
    """Whether a layer draws dropout masks between its layers."""
    return bool(layer.training and layer.dropout > 0 and layer.num_layers > 1)


def rng_state(device: torch.device) -> torch.Tensor:
    """The random generator that a device draws from, to draw the same again."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def arrived(call: Call, dY: torch.Tensor | None, d_last: list[torch.Tensor | None]) -> None:
    """Take the gradients at what the layer returned, in the shapes of what it returned.

    Args:
        call: from `begin`.
        dY: at the outputs, for packed sequences at their ``data``; None for 0.
        d_last: at the last state's arrays, likewise.
    """
    if dY is not None:
        rows = dY if call.packed else time_major(call.layer, dY)
        call.dY = rows.reshape(call.Y.shape)
    shape = call.first[0].shape
    call.d_last = [
        None if d is None else in_row_order(d.reshape(shape), call.order) for d in d_last
    ]
