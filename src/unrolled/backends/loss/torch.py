"""`cross_entropy` in PyTorch, a few rows at a time where the vocabulary is large."""

from typing import Any

import torch
from torch import nn

CHUNK = 2**22
"""Logits from which on, and by how many at a time, cross-entropy works on a few rows at once:
16 MB of float32; fewer would be many small operations."""

NO_TARGET = -(2**63)
"""PyTorch leaves out the targets of one value, -100 if not told; here every one must be an id."""


class CrossEntropy(torch.autograd.Function):
    """``mean(-log softmax(x)_target)`` of logits ``(N, V)`` and ids ``(N,)``, many of them.

    The formula in `unrolled.functional.losses` leaves several arrays of ``(N, V)`` behind for the
    backward pass, 224 MB each for 1,120 tokens of 50,000 kinds, and PyTorch's operation one. Here
    the loss and its gradient, ``(softmax(x) - one_hot(target)) / N``, are taken from the logits a
    few rows at a time; the gradient is the only array made that is as large as the logits.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(logits, targets)
        ids, chosen = targets[:, None], logits.new_empty(len(logits), 1)
        chunks = _chunks(logits)
        log_p = torch.empty_like(logits[chunks[0]])  # one for all: freed ones leave gaps
        for r in chunks:
            part = log_p[: len(ids[r])]
            torch.log_softmax(logits[r], 1, out=part)
            torch.gather(part, 1, ids[r], out=chosen[r])
        return -chosen.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (d_loss,) = gradients
        logits, targets = ctx.saved_tensors
        ids, ones = targets[:, None], torch.ones_like(targets[:, None], dtype=logits.dtype)
        scale = d_loss / len(logits)
        if torch.is_grad_enabled():  # second derivatives are asked for: let PyTorch record
            return scale * torch.softmax(logits, 1).scatter_add(1, ids, -ones), None
        dX = torch.empty_like(logits)  # (N, V)
        for r in _chunks(logits):
            torch.softmax(logits[r], 1, out=dX[r])
            dX[r].scatter_add_(1, ids[r], -ones[r]).mul_(scale)
        return dX, None


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As `unrolled.functional.losses.cross_entropy`."""
    if logits.numel() < CHUNK:
        return nn.functional.cross_entropy(logits, targets.long(), ignore_index=NO_TARGET)
    loss: torch.Tensor = CrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
    return loss


def _chunks(logits: torch.Tensor) -> list[slice]:
    N, V = logits.shape
    size = max(1, CHUNK // V)
    return [slice(start, start + size) for start in range(0, N, size)]
