"""The gradients that PyTorch's fused recurrent layers hide.

`nn.RNN`, `nn.GRU` and `nn.LSTM` are one operation: what goes on between their time steps is
nowhere to be hooked. But weights, inputs and the gradient that arrives at the outputs
determine it. One more forward and one more backward pass of the layer, by the equations
of `unrolled.functional.bptt`, give dL/dh_t of every step, layer and direction, exactly.

Letters: T steps, B sequences, N = rows of all steps together (T * B, for packed sequences
fewer), D inputs, H hidden units, G gates.
"""

from collections.abc import Iterator

import torch
from torch import nn

from unrolled.backends.torch import xp
from unrolled.functional import bptt
from unrolled.kernels.explicit import Weights, input_side
from unrolled.torch.direction import Direction, Layer, our_weights
from unrolled.torch.fused import Call

AGREES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How near the recomputed outputs must come to those of the layer, by its type."""


@torch.no_grad()
def recompute(call: Call) -> tuple[list[Layer], str | None]:
    """Every layer and direction of a call, and a note where something cannot be known.

    The outputs are computed again and compared: should they differ (a dropout mask that
    cannot be drawn again, an input that was overwritten), only what the outputs
    themselves determine is reported: the top layer of an `nn.RNN`.
    """
    with torch.autocast(call.Y.device.type, enabled=False):
        kind = torch.promote_types(call.Y.dtype, torch.float32)
        count, dirs = call.layer.num_layers, call.directions
        every = [Direction(call, i, kind) for i in range(count * dirs)]
        layers = [every[i : i + dirs] for i in range(0, len(every), dirs)]
        masks = list(_masks(call, kind))
        X = call.X.to(kind)
        for parts, mask in zip(layers, masks, strict=True):
            X = _times(torch.cat([part.forward(X) for part in parts], -1), mask)
        near = AGREES[call.inner]
        if not torch.allclose(X, call.Y.to(kind), near, near):
            return _from_outputs(call, layers[-1], kind)
        dY = _or_zeros(call.dY, call.Y).to(kind)
        for parts, mask in reversed(list(zip(layers, masks, strict=True))):
            chunks = _times(dY, mask).chunk(dirs, -1)
            dX = [part.backward(d) for part, d in zip(parts, chunks, strict=True)]
            dY = torch.stack([d for d in dX if d is not None]).sum(0)  # (N, inputs of the layer)
        return [part.found() for part in every], None


@torch.no_grad()
def recompute_cells(call: Call, through_h: bool) -> Layer:
    """The calls of a cell, side by side as one step, from gradients that are known in full.

    Args:
        call: of one step; ``dY`` and ``d_last`` hold what arrives at each call's states.
        through_h: whether what arrives at the LSTM's cell state counts its way through the
            hidden state, as it does where the cell is made of single operations.
    """
    with torch.autocast(call.Y.device.type, enabled=False):
        kind, cell = call.Y.dtype, call.cell
        weights, W_h = our_weights(call, 0, kind)
        w = Weights.of(cell, weights)
        A = input_side(xp, call.X.to(kind)[None], w)
        first = tuple(part[0].to(kind) for part in call.first)
        rest = {"b_hh": w.rest[0]} if w.rest else {}
        _, tape = bptt.forward(xp, cell, A, first, W_h, **rest)
        dY = _or_zeros(call.dY, call.Y)
        d_last = [torch.zeros_like(part) for part in first]
        if len(d_last) == 2 and call.d_last[1] is not None:
            d_last[1] = call.d_last[1][0].to(kind)
            if through_h:
                IFO, _, tanh_C = tape.kept
                O = bptt.gates(IFO[0], 3)[2]  # noqa: E741 (the letter of the equation)
                d_last[1] = d_last[1] - dY * O * (1 - tanh_C[0] * tanh_C[0])
        g = bptt.backward(xp, cell, tape, W_h, dY[None], tuple(d_last))
        return Layer(0, False, tape.old[0], tape.new[0], g.hidden, g.recurrent)


def _from_outputs(
    call: Call, top: list[Direction], kind: torch.dtype
) -> tuple[list[Layer], str | None]:
    """The top layer alone; of an `nn.RNN` the outputs are all that its gradient needs."""
    why = (
        "its dropout masks cannot be drawn again on this device"
        if call.rng is not None
        else "its outputs could not be recomputed: was its input overwritten?"
    )
    if call.cell not in ("rnn", "rnn_relu"):
        return [], f"not traced: {why}"
    Y, dY = call.Y.to(kind), _or_zeros(call.dY, call.Y).to(kind)
    chunks = (x.chunk(len(top), -1) for x in (Y, dY))
    for part, Y_part, dY_part in zip(top, *chunks, strict=True):
        part.forward(Y_part, known=True)
        part.backward(dY_part)
    return [part.found() for part in top], f"top layer only: {why}"


def _masks(call: Call, kind: torch.dtype) -> Iterator[torch.Tensor | None]:
    """What dropout multiplied the outputs of each layer by, drawn again as PyTorch drew it."""
    count, rows = call.layer.num_layers, call.X.shape[0]
    if call.rng is None:
        yield from [None] * count
        return
    cpu, cuda = call.rng
    width = call.layer.hidden_size * call.directions
    ones = call.Y.new_ones((rows, width))
    devices = [call.Y.device] if cuda is not None else []
    with torch.random.fork_rng(devices):
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, call.Y.device)
        for _ in range(count - 1):
            yield nn.functional.dropout(ones, call.layer.dropout).to(kind)
    yield None


def _times(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x * mask


def _or_zeros(gradient: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
