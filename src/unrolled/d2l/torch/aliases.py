"""*Dive into Deep Learning*'s names for PyTorch's functions: ``d2l.matmul``, ``d2l.ones``."""

from typing import Any

import torch

from unrolled.backends import torch as backend

arange, ones, zeros, tensor = torch.arange, torch.ones, torch.zeros, torch.tensor
normal, randn = torch.normal, torch.randn
exp, sin, tanh, sigmoid = torch.exp, torch.sin, torch.tanh, torch.sigmoid
matmul, concat, stack = torch.matmul, torch.cat, torch.stack
reduce_mean, argmax, size = torch.mean, torch.argmax, torch.numel
transpose, swapaxes = torch.t, torch.swapaxes
float32, int32, int64 = torch.float32, torch.int32, torch.int64
numpy = backend.to_numpy


def reshape(x: torch.Tensor, *shape: Any) -> torch.Tensor:
    """``x.reshape(*shape)``."""
    return x.reshape(*shape)


def to(x: torch.Tensor, *where: Any, **options: Any) -> torch.Tensor:
    """``x.to(*where, **options)``."""
    return x.to(*where, **options)
