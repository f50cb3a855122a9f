"""PyTorch's fused recurrent layers (cuDNN on NVIDIA's GPUs) on the weights of our cells.

The default on a GPU: there a loop of small operations waits for their starts, and cuDNN does all
steps in a few large ones. It gives no gradients through time; where these are recorded, PyTorch's
operations compute. Its first derivatives cannot be differentiated again: take
``engine="reference"`` for second ones.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import _VF, nn

from unrolled.functional import bptt
from unrolled.kernels.analytic_backward import weights_by_kind

LAYERS: dict[str, Any] = {
    "rnn": _VF.rnn_tanh,
    "rnn_relu": _VF.rnn_relu,
    "gru": _VF.gru,
    "lstm": _VF.lstm,
}

GATES = {"rnn": "h", "rnn_relu": "h", "gru": "rzh", "lstm": "ifco"}
"""The order in which the layers stack their gates, by the letters of `bptt.GATES`."""

LARGEST_ONE_HOT = 4096
"""Rows of a table up to which its ids become one-hot rows for a fused layer."""

Tensors = tuple[torch.Tensor, ...]


def suits(
    X: torch.Tensor, state: Tensors, weights: Sequence[torch.Tensor], taps: Tensors = ()
) -> bool:
    """Return whether the layer takes these tensors: one type (or autocast), few rows, no taps."""
    types = {x.dtype for x in (X, *state, *weights) if x.is_floating_point()}
    one_type = len(types) == 1 or torch.is_autocast_enabled(X.device.type)
    few_rows = X.is_floating_point() or weights[0].shape[0] <= LARGEST_ONE_HOT
    return one_type and few_rows and not taps


def recur(
    cell: str, X: torch.Tensor, state: Tensors, weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`: by the fused layer."""
    w = weights_by_kind(cell, weights)
    order = [bptt.GATES[cell].index(letter) for letter in GATES[cell]]
    W_x = torch.cat([w.x[i] for i in order], 1).T  # (G * H, D)
    W_h = torch.cat([w.h[i] for i in order], 1).T  # (G * H, H)
    b_x = torch.cat([w.b[i] for i in order])
    # the recurrent side's bias: the GRU's candidate, the last of its gates, has one
    b_h = torch.cat([torch.zeros_like(b_x[: -w.b[0].shape[0]]), w.rest[0]]) if w.rest else 0 * b_x
    W_x, W_h, b_x, b_h = _in_one_piece(W_x, W_h, b_x, b_h)
    if not X.is_floating_point():
        X = nn.functional.one_hot(X.long(), W_x.shape[1]).to(W_x.dtype)
    first = [part[None] for part in state]  # (1, B, H) each: one layer
    train = torch.is_grad_enabled()  # only then cuDNN keeps what its backward pass needs
    arguments = ([W_x, W_h, b_x, b_h], True, 1, 0.0, train, False, False)
    outputs, *last = LAYERS[cell](X, first if len(first) > 1 else first[0], *arguments)
    return outputs, tuple(part[0].clone() for part in last)  # no views, see `kernels.torch.recur`


def _in_one_piece(*arrays: torch.Tensor) -> Tensors:
    """The same arrays one after the other in memory, where cuDNN would else copy them to."""
    flat = torch.cat([x.reshape(-1) for x in arrays])
    pieces = torch.split_with_sizes(flat, [x.numel() for x in arrays])
    return tuple(piece.view(x.shape) for piece, x in zip(pieces, arrays, strict=True))
