"""The passes of `unrolled.functional.bptt` by the Triton kernels, on PyTorch's tensors."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from triton import cdiv

from unrolled.backends.namespace import Namespace
from unrolled.functional import bptt
from unrolled.kernels.triton import cells, loops


class Blocks(NamedTuple):
    """How much a program computes at once; the defaults were the fastest on an H100.

    Attributes:
        rows: sequences of a program; 16 are the fewest that a matrix unit multiplies at once.
        units: hidden units.
        parts: into which the sum of a product is cut, each for threads of its own.
        share: terms of each part that are read at once.
        warps: groups of 32 threads.
        stages: shares that are under way from memory while one is multiplied, and that one.
    """

    rows: int = 16
    units: int = 16
    parts: int = 4
    share: int = 32
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True)
class Kernels:
    """What the loops need to know of a cell.

    Attributes:
        step, step_back: see `unrolled.kernels.triton.cells`.
        kept: values that a step keeps for each unit.
        direct: the state that a gradient reaches past the product, ``"H"``, ``"C"`` or ``""``.
    """

    step: Any
    step_back: Any
    kept: int = 0
    direct: str = ""


BLOCKS = Blocks()

KERNELS = {
    "rnn": Kernels(cells.rnn_step, cells.rnn_step_back),
    "rnn_relu": Kernels(cells.relu_step, cells.relu_step_back),
    "gru": Kernels(cells.gru_step, cells.gru_step_back, kept=4, direct="H"),
    "lstm": Kernels(cells.lstm_step, cells.lstm_step_back, kept=4, direct="C"),
}
"""By the names in `unrolled.functional.bptt.GATES`."""


@dataclass(frozen=True)
class Triton:
    """A cell's passes through time by kernels of the project's own."""

    keep: bool = True
    tf32: bool = False

    def forward(
        self,
        xp: Namespace,
        cell: str,
        A: torch.Tensor,
        state: bptt.Arrays,
        W_h: torch.Tensor,
        b_hh: torch.Tensor | float = 0.0,
    ) -> tuple[bptt.Arrays, bptt.Tape]:
        """See `unrolled.functional.bptt.forward`."""
        b = b_hh if isinstance(b_hh, torch.Tensor) else A.new_full(W_h.shape[:1], b_hh)
        _check_types(A, *state, W_h, b)
        kernels, (T, B, _), N = KERNELS[cell], A.shape, W_h.shape[0]
        states = [A.new_empty(T + 1, B, N) for _ in state]
        for whole, first in zip(states, state, strict=True):
            whole[0].copy_(first)
        num_kept = kernels.kept if self.keep else 0
        kept = A.new_empty(T, B, num_kept * N)
        A, W, b = A.contiguous(), W_h.contiguous(), b.contiguous()
        constants = (kernels.step, len(bptt.GATES[cell]), num_kept, len(state) == 2)
        arrays = (A, W, b, states[0], states[-1], kept)
        self._start(loops.forward, arrays, (T, B, N), constants)
        new = tuple(whole[1:] for whole in states)
        old = tuple(whole[:-1] for whole in states)
        return tuple(part[-1] for part in new), bptt.Tape(old, new, (kept,))

    def backward(
        self,
        xp: Namespace,
        cell: str,
        tape: bptt.Tape,
        W_h: torch.Tensor,
        dY: torch.Tensor,
        d_last: bptt.Arrays,
    ) -> bptt.Gradients:
        """See `unrolled.functional.bptt.backward`; the tape is from `forward`."""
        kernels, (T, B, N), G = KERNELS[cell], dY.shape, len(bptt.GATES[cell])
        old, new = ([part.contiguous() for part in parts] for parts in (tape.old, tape.new))
        D, hidden = dY.new_empty(T, B, G * N), dY.new_empty(T, B, N)
        dA = torch.empty_like(D) if kernels.direct == "H" else D
        direct = dY.new_zeros(T + 1 if kernels.direct else 0, B, N)
        if kernels.direct == "C":
            direct[T].copy_(d_last[1])
        dY = dY.clone(memory_format=torch.contiguous_format)
        dY[-1].add_(d_last[0])
        W, (kept,) = W_h.contiguous(), tape.kept
        arrays = (dY, W, old[0], new[0], old[-1], new[-1], kept, dA, D, hidden, direct)
        constants = (kernels.step_back, G, kernels.kept, kernels.direct)
        self._start(loops.backward, arrays, (T, B, N), constants)
        flows = D[0] @ W.T  # (B, N)
        d_first = (flows + direct[0] if kernels.direct == "H" else flows,)
        return bptt.Gradients(
            dA, D, hidden, (*d_first, direct[0]) if kernels.direct == "C" else d_first
        )

    def _start(
        self,
        loop: Any,
        arrays: tuple[torch.Tensor, ...],
        sizes: tuple[int, int, int],
        constants: tuple[Any, ...],
    ) -> None:
        """Run a loop over all steps of ``(T, B, N)``."""
        rows, units, parts, share, warps, stages = BLOCKS
        _, B, N = sizes
        groups = cdiv(B, rows)
        # those that wait for each other must all run at the same time
        programs = min(cdiv(N, units), max(1, _at_a_time(arrays[0]) // groups))
        meet = programs > 1
        options: dict[str, Any] = {"num_warps": warps, "num_stages": stages}
        if meet:
            options["launch_cooperative_grid"] = True  # CUDA refuses more programs than that
        arrived = torch.zeros(groups, dtype=torch.int32, device=arrays[0].device)
        blocks = (rows, units, parts, share, "tf32" if self.tf32 else "tf32x3")
        loop[groups, programs](*arrays, arrived, *sizes, *constants, meet, *blocks, **options)


def _at_a_time(x: torch.Tensor) -> int:
    """How many programs surely run at the same time: one on each multiprocessor.

    Triton's interpreter runs one after the other.
    """
    if not x.is_cuda:
        return 1
    return int(torch.cuda.get_device_properties(x.device).multi_processor_count)


def _check_types(*arrays: torch.Tensor) -> None:
    others = {array.dtype for array in arrays} - {torch.float32}
    if others:
        given = ", ".join(sorted(map(str, others)))
        raise TypeError(f"the kernels take torch.float32, these tensors are {given}")
