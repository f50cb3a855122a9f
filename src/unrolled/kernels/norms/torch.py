"""Norms and layer numbers of PyTorch tensors by the native kernels, where they can.

Each function gives None where they cannot: elsewhere than on the CPU, without a compiler, for
sparse tensors; then the formula computes.
"""

from collections.abc import Sequence

import torch

from unrolled.kernels import native

SMALLEST_SHARE = 2**17
"""Numbers to read under which a thread is not worth starting."""

Numbers = torch.Tensor | None


def norms(arrays: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] = ()) -> Numbers:
    """``||a||`` of each array, or ``||a - b||``, as one vector of float64.

    Args:
        arrays: of any shapes, at least one.
        minus: none, or as many of the same shapes.
    """
    if not _suit([*arrays, *minus]):
        return None
    out = torch.empty(len(arrays), dtype=torch.float64)
    native.norms(arrays, out, minus, threads=_threads(sum([x.numel() for x in arrays])))
    return out


def layer_numbers(
    dH: torch.Tensor,
    D: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    limit: float,
    relu: bool,
) -> Numbers:
    """The numbers of `unrolled.telemetry.through_time.layer_numbers`, arguments as there.

    Args:
        dH, D, before, after: as there.
        limit, relu: see `unrolled.kernels.native.layer_numbers`.
    """
    if not _suit([dH, D, before, after]):
        return None
    out = after.new_empty(3 * len(after) + 1, requires_grad=False)
    every = before.dim() == 3  # or only the first
    native.layer_numbers(
        dH,
        D,
        after,
        out,
        limit=limit,
        relu=relu,
        before=before if every else None,
        first=None if every else before,
        threads=_threads(2 * dH.numel() + D.numel()),
    )
    return out


def _suit(arrays: Sequence[torch.Tensor]) -> bool:
    """Whether the kernels can read them: contiguous, on the CPU, all of one of their types."""
    dtype, strided = arrays[0].dtype, torch.strided
    if dtype not in (torch.float32, torch.float64) or not native.available()[0]:
        return False
    for x in arrays:
        if not x.is_cpu or x.layout != strided or x.dtype != dtype or not x.is_contiguous():
            return False
    return True


def _threads(count: int) -> int:
    return max(1, min(torch.get_num_threads(), count // SMALLEST_SHARE))
