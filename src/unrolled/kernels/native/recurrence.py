"""Call the native kernels of a recurrent layer over all steps, forward and backward.

``interface.h`` says of every array what it holds and what it is when left out; the types and
shapes are in ``interface.py``. Where gates have arrays of their own, sequences of G are given.
"""

from collections.abc import Sequence
from typing import Any

from unrolled.errors import did_you_mean
from unrolled.kernels.native.arrays import address, fill, item_bytes
from unrolled.kernels.native.interface import CELLS, Recurrence
from unrolled.kernels.native.loading import begin, give, run


def forward(
    cell: str,
    inputs: Any | Sequence[Any],
    W_h: Sequence[Any],
    outputs: Any,
    *,
    ids: Any = None,
    precision: str = "",
    threads: int = 1,
    **arrays: Any,
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
        precision: that of the arrays by default; ``"bfloat16"`` takes float32 arrays and
            multiplies in bfloat16 with sums in float32.
        threads: from 1 up.
        arrays: ``biases``, ``b_hh``, ``h0``, ``c0``, and what is written beside the outputs:
            ``cells``, which the LSTM needs, and ``gates``, which `backward` needs.

    Raises:
        ValueError: an array of another shape or type, not contiguous, or an id out of range.
    """
    call, sizes = _begin(cell, W_h, outputs, precision, threads)
    T, B, H, GH = (sizes[letter] for letter in ("T", "B", "H", "GH"))
    if ids is None:
        first = address(inputs, (T, B, GH), like=outputs)
        fill(call.inputs, [first + i * item_bytes(outputs) for i in range(0, GH, H)])
        call.input_stride = GH
    else:
        call.V, call.input_stride = inputs[0].shape[0], H
        fill(call.inputs, [address(W, (call.V, H), like=outputs) for W in inputs])
        call.ids = address(ids, (T, B), type="int64")
    give(call, outputs, sizes, arrays)
    run("unrolled_forward", call, "unrolled_forward_workspace")


def backward(
    cell: str,
    W_h: Sequence[Any],
    outputs: Any,
    D: Any,
    *,
    dW_x: Sequence[Any] = (),
    ids: Any = None,
    precision: str = "",
    threads: int = 1,
    **arrays: Any,
) -> None:
    """Gradients through time, given those of a loss with respect to the outputs.

    Args:
        cell, W_h, outputs: as given to and written by `forward`.
        D: written, ``(T, B, G H)``, gradient at the recurrent product ``H_{t-1} W_h`` of each
            step. For the LSTM it may be the array ``gates`` itself, which is then gone.
        dW_x: written if given, G arrays ``(V, H)``, of the rows that were looked up.
        ids: ``(T, B)``, int64, what `forward` looked up; needed for ``dW_x``.
        precision, threads: as given to `forward`.
        arrays: ``h0``, ``c0``, ``cells``, ``gates`` as for `forward`; the gradients ``d_outputs``,
            ``d_h`` and ``d_c`` of the last states; and what is written if given: ``dA``, which
            the GRU needs, ``dH``, ``d_h0``, ``d_c0``, ``dW_h``, ``db``, ``db_hh``.

    Raises:
        ValueError: as `forward`.
    """
    call, sizes = _begin(cell, W_h, outputs, precision, threads)
    if dW_x:
        call.V = sizes["V"] = dW_x[0].shape[0]
        call.ids = address(ids, tuple(outputs.shape[:2]), type="int64")
        give(call, outputs, sizes, {"dW_x": dW_x})
    give(call, outputs, sizes, {"D": D, **arrays})
    run("unrolled_backward", call, "unrolled_backward_workspace")


def _begin(
    cell: str, W_h: Sequence[Any], outputs: Any, precision: str, threads: int
) -> tuple[Any, dict[str, int]]:
    """The call with what forward and backward have in common, and the sizes of arrays."""
    if cell not in CELLS:
        raise ValueError(f"unknown cell '{cell}': {did_you_mean(cell, CELLS)}")
    (T, B, H), G = outputs.shape, CELLS[cell]
    if len(W_h) != G:
        raise ValueError(f"{cell} has {G} recurrent weights, not {len(W_h)}")
    call = begin(Recurrence, outputs, threads, precision, T=T, B=B, H=H)
    call.cell = [*CELLS].index(cell)
    sizes = {"T": T, "B": B, "H": H, "4H": 4 * H, "GH": G * H}
    give(call, outputs, sizes, {"W_h": W_h, "outputs": outputs})
    return call, sizes
