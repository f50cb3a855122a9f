"""``Module`` for PyTorch, an `nn.Module` to subclass; ``NativeModel`` trains a plain one."""

from typing import Any, ClassVar

import torch
from torch import nn

from unrolled.backends import Backend
from unrolled.backends import torch as backend
from unrolled.models import native
from unrolled.report.board import ProgressBoard
from unrolled.training import module


class Module(module.Module, nn.Module):
    backend: ClassVar[Backend] = backend
    board_type = ProgressBoard
    lr: float

    def __setattr__(self, name: str, value: Any) -> None:
        """A tensor that requires a gradient is a parameter, also where it is not called one.

        So that ``self.w = torch.zeros(2, 1, requires_grad=True)`` is trained, moved and saved.
        """
        if isinstance(value, torch.Tensor) and value.requires_grad and value.is_leaf:
            value = _as_parameter(value)
        super().__setattr__(name, value)

    def declare(self, name: str, values: torch.Tensor) -> None:
        """Make a parameter; PyTorch lists it under its dotted name."""
        *path, leaf = name.split(".")
        holder: nn.Module = self
        for part in path:
            if not hasattr(holder, part):
                holder.add_module(part, nn.Module())
            holder = getattr(holder, part)
        if values.requires_grad and values.is_leaf:
            setattr(holder, leaf, _as_parameter(values))
        else:
            holder.register_parameter(leaf, nn.Parameter(values.detach()))

    def configure_optimizers(self) -> Any:
        """`torch.optim.SGD` at ``self.lr``."""
        self.check_lr()
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def _as_parameter(values: torch.Tensor) -> nn.Parameter:
    """The same tensor, which stays itself, so that whoever made it finds its gradient there."""
    values._is_param = True  # PyTorch's mark
    return values  # type: ignore[return-value]


class NativeModel(native.NativeModel, Module):
    pass
