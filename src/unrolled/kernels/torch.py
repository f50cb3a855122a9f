"""Run PyTorch recurrences by the native kernels, cuDNN, Triton, or PyTorch's operations."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import torch

from unrolled.backends.torch import in_transform
from unrolled.errors import SettingError
from unrolled.functional import bptt
from unrolled.kernels import check_engine, native
from unrolled.kernels.analytic_backward import Operations
from unrolled.kernels.autograd import torch as autograd
from unrolled.kernels.autograd.torch import Tensors, empty, xp
from unrolled.kernels.cudnn import torch as cudnn
from unrolled.kernels.native_recurrence import NativeRecurrence, in_new_arrays


def _contiguous(arrays: Any) -> Any:
    if isinstance(arrays, torch.Tensor):
        return arrays.contiguous()
    return [array.contiguous() for array in arrays]


_call = in_new_arrays(empty, _contiguous)


def _native_kernels(
    arrays: Sequence[torch.Tensor], precision: str = "float32"
) -> NativeRecurrence | None:
    """The native kernels, if they can work on such tensors: on the CPU, all of one type.

    Args:
        arrays: ids may be among them, but not the last.
        precision: see `unrolled.kernels.recur`.
    """
    kind = arrays[-1].dtype
    if kind not in (torch.float32, torch.float64) or not native.available()[0]:
        return None
    for array in arrays:
        if not array.is_cpu or (array.dtype != kind and array.is_floating_point()):
            return None
    return NativeRecurrence(xp, _call, torch.get_num_threads(), precision)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: NativeRecurrence, *arrays: torch.Tensor) -> torch.Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(*arrays[:2])
        Y: torch.Tensor = kernels.affine(*arrays)
        return Y

    @staticmethod
    def backward(ctx: Any, dY: torch.Tensor) -> Any:
        X, W = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are asked for: let PyTorch record
            return None, dY @ W.T, X.T @ dY, dY.sum(0)
        return (None, *ctx.kernels.affine_back(X, W, dY))


def affine(X: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """See `unrolled.kernels.project`."""
    kernels = None if in_transform() else _native_kernels((X, W, b))
    if kernels is None:
        return X @ W + b
    Y: torch.Tensor = _Affine.apply(kernels, X, W, b)  # type: ignore[no-untyped-call]
    return Y


def through_time(
    cell: str, tape: bptt.Tape, W_h: Sequence[torch.Tensor], dY: torch.Tensor, d_last: Tensors
) -> bptt.Gradients:
    """The backward pass along a tape, without the gradients of weights.

    Args:
        cell: name in `unrolled.functional.bptt.GATES`.
        tape: of the forward pass.
        W_h: ``(H, H)`` of each gate.
        dY: gradient with respect to the outputs, ``(T, B, H)``.
        d_last: gradient with respect to the last state, ``(B, H)`` each.
    """
    kernels = _native_kernels((dY, *W_h))
    if kernels is None:
        return bptt.backward(xp, cell, tape, bptt.stack_gates(xp, W_h), dY, d_last)
    return kernels.along(cell, W_h, tape, dY, d_last)


def recur(
    cell: str,
    X: torch.Tensor,
    state: Tensors,
    weights: Sequence[torch.Tensor],
    taps: Tensors = (),
    precision: str = "float32",
    engine: str = "auto",
) -> tuple[torch.Tensor, Tensors]:
    """See `unrolled.kernels.recur`.

    The last state is no view of the outputs: books cut it off with ``detach_()``, which PyTorch
    forbids for views.
    """
    if in_transform():
        return autograd.formula(cell, X, state, weights)
    if engine == "triton":
        check_engine(engine, "torch", weights[0].is_cuda)
        return autograd.recur(_triton(), cell, X, state, weights, taps)
    if weights[0].is_cuda:
        if precision != "float32":
            raise SettingError(
                f"precision={precision} is for CPUs, these weights are on {weights[0].device}. "
                "Take precision=float32, and torch.autocast or "
                "torch.set_float32_matmul_precision('high')"
            )
        return cudnn.recur(cell, X, state, weights, taps)
    kernels = _native_kernels((X, *taps, *state, *weights), precision)
    if kernels is None:
        return autograd.recur(autograd.OPERATIONS, cell, X, state, weights, taps)
    X = X if X.is_floating_point() else X.long()
    return autograd.recur(kernels, cell, X, state, weights, taps)


def _triton() -> Operations:
    """The engine of the Triton kernels.

    Raises:
        SettingError: Triton is not installed, or cannot be loaded any more.
    """
    if "tensorflow" in sys.modules and "triton" not in sys.modules:
        raise SettingError(
            "engine=triton: once TensorFlow is loaded, loading Triton crashes; import triton first"
        )
    try:
        module = importlib.import_module("unrolled.kernels.triton.torch")
    except ModuleNotFoundError as error:
        raise SettingError(f"engine=triton: {error}; pip install triton") from None
    matmul = torch.backends.cuda.matmul
    # from PyTorch 2.9 on; where it is set, asking in the older way is an error
    setting = getattr(matmul, "fp32_precision", None)
    tf32 = bool(matmul.allow_tf32) if setting is None else setting not in ("none", "ieee")
    return Operations(xp, module.Triton(torch.is_grad_enabled(), tf32))
