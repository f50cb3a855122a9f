"""A recurrent layer over all steps, forward and backward."""

from collections.abc import Sequence
from typing import Any

from unrolled.errors import did_you_mean
from unrolled.kernels.native.arrays import (
    address,
    fill,
    is_tensor,
    item_bytes,
    precision_of,
)
from unrolled.kernels.native.interface import CELLS, Recurrence
from unrolled.kernels.native.loading import instructions_of, run


def forward(
    cell: str,
    inputs: Any | Sequence[Any],
    W_h: Sequence[Any],
    outputs: Any,
    *,
    ids: Any = None,
    biases: Sequence[Any] = (),
    b_hh: Any = None,
    h0: Any = None,
    c0: Any = None,
    cells: Any = None,
    gates: Any = None,
    precision: str = "",
    threads: int = 1,
    instructions: str = "",
) -> None:
    """Carry a cell over all steps.

    Args:
        cell: ``"rnn"``, ``"rnn_relu"``, ``"gru"`` (reset after the product) or ``"lstm"``.
        inputs: what the input contributes, ``X_t W_x``: one array ``(T, B, G H)``, or with
            ``ids`` the weights ``W_x`` themselves, G arrays ``(V, H)``, whose rows are
            looked up inside the step.
        W_h: G arrays ``(H, H)``.
        outputs: written, hidden states ``(T, B, H)``.
        ids: ``(T, B)``, int64.
        biases: none, or G arrays ``(H,)`` that are added to the inputs.
        b_hh: ``(H,)``, of the GRU's recurrent candidate; zeros by default.
        h0, c0: states before the first step, ``(B, H)``; zeros by default, which saves a product.
        cells: written, ``(T, B, H)``; needed for the LSTM.
        gates: written for `backward`, ``(T, B, 4 H)``: for the LSTM its gates; for the GRU z, r,
            the candidate, and ``H_{t-1} W_hh + b_hh``. The RNN needs none; leave it out where
            there is no backward pass.
        precision: that of the arrays by default; ``"bfloat16"`` takes float32 arrays and
            multiplies in bfloat16 with sums in float32.
        threads: from 1 up.
        instructions: for tests, one of ``describe()["choices"]``.

    Raises:
        ValueError: an array of another shape or type, not contiguous, or an id out of range.
    """
    T, B, H = outputs.shape
    call = _recurrence(cell, outputs, W_h, precision, threads, instructions)
    G = CELLS[cell]
    if ids is None:
        fill(call.inputs, _gates_of(inputs, (T, B, G * H), outputs, G))
        call.input_stride = G * H
    else:
        call.V, call.input_stride = inputs[0].shape[0], H
        fill(call.inputs, [address(W, (call.V, H), like=outputs) for W in inputs])
        call.ids = address(ids, (T, B), type="int64")
    fill(call.biases, [address(b, (H,), like=outputs) for b in biases])
    call.b_hh = address(b_hh, (H,), like=outputs)
    _states(call, outputs, h0=h0, c0=c0)
    call.cells = address(cells, (T, B, H), like=outputs)
    call.gates = address(gates, (T, B, 4 * H), like=outputs)
    run("unrolled_forward", call, "unrolled_forward_workspace")


def backward(
    cell: str,
    W_h: Sequence[Any],
    outputs: Any,
    D: Any,
    *,
    h0: Any = None,
    c0: Any = None,
    cells: Any = None,
    gates: Any = None,
    d_outputs: Any = None,
    d_h: Any = None,
    d_c: Any = None,
    dA: Any = None,
    dH: Any = None,
    d_h0: Any = None,
    d_c0: Any = None,
    dW_h: Sequence[Any] = (),
    dW_x: Sequence[Any] = (),
    ids: Any = None,
    db: Sequence[Any] = (),
    db_hh: Any = None,
    precision: str = "",
    threads: int = 1,
    instructions: str = "",
) -> None:
    """Gradients through time, given those of a loss with respect to the outputs.

    Args:
        cell, W_h, outputs, h0, c0, cells, gates: as given to and written by `forward`.
        D: written, ``(T, B, G H)``, gradient at the recurrent product ``H_{t-1} W_h`` of each
            step. For the LSTM it may be the array ``gates`` itself, which is then gone.
        d_outputs: ``(T, B, H)``; zeros by default, as for all gradients that are read.
        d_h, d_c: of the last states, ``(B, H)``.
        dA: written, ``(T, B, G H)``, gradient at the input side. Only the GRU has it, and needs
            it; for the others it equals ``D``.
        dH: written if given, ``(T, B, H)``, total gradient of every hidden state.
        d_h0, d_c0: written if given, ``(B, H)``.
        dW_h: written if given, G arrays ``(H, H)``: ``sum_t H_{t-1}^T D_t``.
        dW_x: written if given, G arrays ``(V, H)``, of the rows that were looked up.
        ids: ``(T, B)``, int64, what `forward` looked up; needed for ``dW_x``.
        db: written if given, G arrays ``(H,)``, or None where nobody asks.
        db_hh: written if given, ``(H,)``; GRU only.
        precision, threads, instructions: as given to `forward`.

    Raises:
        ValueError: as `forward`.
    """
    T, B, H = outputs.shape
    G = CELLS.get(cell, 0)
    call = _recurrence(cell, outputs, W_h, precision, threads, instructions)
    call.cells = address(cells, (T, B, H), like=outputs)
    call.gates = address(gates, (T, B, 4 * H), like=outputs)
    _states(call, outputs, h0=h0, c0=c0, d_h=d_h, d_c=d_c, d_h0=d_h0, d_c0=d_c0)
    call.d_outputs = address(d_outputs, (T, B, H), like=outputs)
    call.D = address(D, (T, B, G * H), like=outputs)
    call.dA = address(dA, (T, B, G * H), like=outputs)
    call.dH = address(dH, (T, B, H), like=outputs)
    fill(call.dW_h, [address(dW, (H, H), like=outputs) for dW in dW_h])
    if dW_x:
        call.V = dW_x[0].shape[0]
        call.ids = address(ids, (T, B), type="int64")
        fill(call.dW_x, [address(dW, (call.V, H), like=outputs) for dW in dW_x])
    fill(call.db, [address(d, (H,), like=outputs) for d in db])
    call.db_hh = address(db_hh, (H,), like=outputs)
    run("unrolled_backward", call, "unrolled_backward_workspace")


def _recurrence(
    cell: str,
    outputs: Any,
    W_h: Sequence[Any],
    precision: str,
    threads: int,
    instructions: str,
) -> Recurrence:
    """What forward and backward have in common."""
    if cell not in CELLS:
        raise ValueError(f"unknown cell '{cell}': {did_you_mean(cell, CELLS)}")
    T, B, H = outputs.shape
    call = Recurrence()
    call.cell = [*CELLS].index(cell)
    call.precision = precision_of(precision, outputs)
    call.instructions, call.threads = instructions_of(instructions), threads
    call.openmp = is_tensor(outputs)
    call.T, call.B, call.H = T, B, H
    if len(W_h) != CELLS[cell]:
        raise ValueError(f"{cell} has {CELLS[cell]} recurrent weights, not {len(W_h)}")
    fill(call.W_h, [address(W, (H, H), like=outputs) for W in W_h])
    call.outputs = address(outputs, (T, B, H))
    return call


def _states(call: Recurrence, outputs: Any, **states: Any) -> None:
    for name, state in states.items():
        setattr(call, name, address(state, tuple(outputs.shape[1:]), like=outputs))


def _gates_of(stacked: Any, shape: tuple[int, ...], like: Any, gates: int) -> list[int]:
    """Addresses of the gates in an array that stacks them on its last axis."""
    first = address(stacked, shape, like=like)
    return [first + g * shape[-1] // gates * item_bytes(like) for g in range(gates)]
