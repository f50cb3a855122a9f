"""PyTorch's fused recurrent layers, cuDNN on NVIDIA's GPUs, on the weights of our cells.

On a GPU a loop of small operations waits for their starts; cuDNN does all steps in a few
large ones. There it is one of the engines that are measured (`unrolled.kernels.gpu`), unless
gradients through time are asked for, which a fused layer does not give.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import _VF, nn

from unrolled.kernels.analytic_backward import Weights
from unrolled.models.layers import GATE_ORDERS

LAYERS: dict[str, Any] = {
    "rnn": _VF.rnn_tanh,
    "rnn_relu": _VF.rnn_relu,
    "gru": _VF.gru,
    "lstm": _VF.lstm,
}

Tensors = tuple[torch.Tensor, ...]


def recur(
    cell: str, X: torch.Tensor, state: Tensors, weights: Sequence[torch.Tensor], gates: str
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`.

    Args:
        cell: name in `LAYERS`.
        X: ``(T, B, D)``, or ids ``(T, B)``, which become one-hot rows.
        state: arrays ``(B, H)``.
        weights: in the order of ``CELLS[cell].weights``.
        gates: the gates' letters in that order.
    """
    w = Weights.of(cell, weights)
    order = [gates.index(letter) for letter in GATE_ORDERS["torch"][cell]]
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
    return outputs, tuple(part[0] for part in last)


def _in_one_piece(*arrays: torch.Tensor) -> Tensors:
    """The same arrays one after the other in memory, where cuDNN would else copy them to."""
    flat = torch.cat([x.reshape(-1) for x in arrays])
    pieces = torch.split_with_sizes(flat, [x.numel() for x in arrays])
    return tuple(piece.view(x.shape) for piece, x in zip(pieces, arrays, strict=True))
