"""`FusedCall`: the inputs, outputs and gradients of one call of `nn.RNN`, `nn.GRU`, `nn.LSTM`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.torch.through_time.sequences import TracedCall

Tensors = tuple[torch.Tensor, ...]

FUSED = (nn.RNN, nn.GRU, nn.LSTM)

CELLS = {"RNN_TANH": "rnn", "RNN_RELU": "rnn_relu", "GRU": "gru", "LSTM": "lstm"}


@dataclass(kw_only=True, eq=False)
class FusedCall(TracedCall):
    """One call of a fused layer; its gradients are under ``"Y"``, 0 and 1, as it returned them."""

    layer: Any
    X: torch.Tensor  # the rows that it read, (N, D), time-major
    batch_sizes: list[int]  # how many sequences are still running at each step
    first: Tensors  # its first state, (layers * directions, B, H) each, in the order of the rows
    Y: torch.Tensor  # its outputs, (N, directions * H)
    weights: list[list[torch.Tensor]]  # of each layer and direction: W_ih, W_hh and maybe biases
    inner: torch.dtype  # that it computed in; under autocast not always that of Y
    rng: torch.Tensor | None = None  # the generator's state before the call, if something was drawn
    drawn: torch.Tensor | None = None  # its state after it
    order: torch.Tensor | None = None  # of the sequences in a packed batch; None: their own

    def __post_init__(self) -> None:
        self.steps = len(self.batch_sizes)
        self.versions = self._versions()

    def overwritten(self) -> list[str]:
        """Which of its tensors have been written to since the call."""
        now = self._versions()
        return [name for name, version in self.versions.items() if now[name] != version]

    def _versions(self) -> dict[str, int]:
        weights = [weight for part in self.weights for weight in part]
        parts = {"input": [self.X], "output": [self.Y], "state": self.first, "weights": weights}
        return {name: sum(part._version for part in of) for name, of in parts.items()}

    @property
    def cell(self) -> str:
        """Its name in `bptt.STEPS`."""
        return CELLS[self.layer.mode]

    @property
    def directions(self) -> int:
        """2 if it reads backwards too."""
        return 2 if self.layer.bidirectional else 1

    def arrived(self, kind: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The gradients at the rows of ``Y`` and at the arrays of the last state; 0 if none."""
        dY, shape = self.gradients.get("Y"), self.first[0].shape
        if dY is None:
            dY = torch.zeros_like(self.Y)
        elif not self.packed:
            dY = time_major(self.layer, dY)
        ends = (self.gradients.get(place) for place in range(len(self.first)))
        d_last = [
            torch.zeros(shape, device=dY.device, dtype=kind)
            if d is None
            else in_row_order(d.reshape(shape), self.order).to(kind)
            for d in ends
        ]
        return dY.reshape(self.Y.shape).to(kind), d_last


def why_not(layer: Any) -> str | None:
    """Why a fused layer cannot be traced; None if it can."""
    if getattr(layer, "proj_size", 0):
        return "not traced: an LSTM with proj_size has no equations here"
    if type(layer).forward not in (kind.forward for kind in FUSED):
        return "not traced: its class has a forward of its own"
    return None


def begin(
    layer: Any, inputs: Any, state: Any, outputs: Any, rng: torch.Tensor | None = None
) -> FusedCall:
    """A call from what went into the layer and came out of it, just now."""
    Y, last = outputs
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
        parts = state if isinstance(state, tuple) else (state,)
        first = tuple(in_row_order(part.detach().reshape(size), order) for part in parts)
    flat = dict(zip(layer._flat_weights_names, layer._flat_weights, strict=True))
    device = rows.device.type
    half = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return FusedCall(
        layer=layer,
        X=X.detach(),
        batch_sizes=batch_sizes,
        first=first,
        Y=rows.detach(),
        end=(last[0] if isinstance(last, tuple) else last).detach(),
        weights=[[flat[name].detach() for name in part] for part in layer._all_weights],
        inner=torch.get_autocast_dtype(device) if half else rows.dtype,
        rng=rng,
        drawn=None if rng is None else torch.get_rng_state(),
        packed=packed,
        order=order,
    )


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
