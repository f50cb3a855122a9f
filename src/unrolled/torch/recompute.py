"""Recompute the gradients through time of `nn.RNN`, `nn.GRU`, `nn.LSTM` from one call.

`nn.RNN`, `nn.GRU` and `nn.LSTM` are one operation: what goes on between their time steps is
nowhere to be hooked. But weights, inputs, outputs and the gradient that arrives at them
determine it. One more forward and one more backward pass of the layer, by the equations
of `unrolled.functional.bptt`, give dL/dh_t of every step, layer and direction, exactly.
It is less work than the layer's own: the top layer's hidden states are known, and nobody
asks for the gradients of weights.

Letters: T steps, B sequences, N = rows of all steps together (T * B, for packed sequences
fewer), D inputs, H hidden units, G gates.
"""

from dataclasses import dataclass

import torch
from torch import nn

from unrolled.backends.torch import xp
from unrolled.functional import bptt
from unrolled.kernels.analytic_backward import input_side
from unrolled.telemetry.through_time import gate_shares
from unrolled.torch.fused import Call, written_to
from unrolled.torch.fused_direction import Direction, Layer, our_weights

AGREES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How near the recomputed outputs must come to those of the layer, by its type."""


@torch.no_grad()
def recompute(call: Call) -> tuple[list[Layer], str | None]:
    """Every layer and direction of a call, and a note where something cannot be known.

    The outputs are computed again and compared. Should they differ, or dropout masks not be
    those of the forward pass, only what the outputs themselves determine is reported: the top
    layer of an `nn.RNN`. If that is its only layer, there is nothing to compare. Outputs
    that the person has written to since are computed again, and nothing else is known of them.
    """
    written = call.overwritten()
    if written - {"output", "input"} or ("input" in written and _needs_input(call, written)):
        return [], written_to(sorted(written - {"output"}))
    with torch.autocast(call.Y.device.type, enabled=False):
        kind = torch.promote_types(call.Y.dtype, torch.float32)
        dirs = call.directions
        every = [Direction(call, i, kind) for i in range(call.layer.num_layers * dirs)]
        layers = [every[i : i + dirs] for i in range(0, len(every), dirs)]
        Y, dY = call.Y.to(kind), _or_zeros(call.dY, call.Y).to(kind)
        known = None if "output" in written else Y
        masks, X = _masks(call, kind), call.X.to(kind)
        for parts, mask in zip(layers[:-1], masks.each, strict=True):
            X = _times(_forward(parts, X), mask)
        plain = call.cell in ("rnn", "rnn_relu") and known is not None
        agrees = masks.certain and (
            (plain and len(layers) == 1) or _agrees(call, _forward(layers[-1], X, known), known)
        )
        if plain:
            for part, side in zip(layers[-1], Y.chunk(dirs, -1), strict=True):
                part.take(side)
        elif not agrees:
            return [], f"not traced: {_why(call)}"
        dA = _backward(layers[-1], dY)
        if not agrees:
            return [part.found() for part in layers[-1]], f"top layer only: {_why(call)}"
        for above, parts, mask in reversed(
            list(zip(layers[1:], layers[:-1], masks.each, strict=True))
        ):
            # what is read above are the outputs of all directions
            dX = [part.at_inputs(d) for part, d in zip(above, dA, strict=True)]
            dA = _backward(parts, _times(torch.stack(dX).sum(0), mask))
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
        w = our_weights(call, 0, kind)
        W_h = bptt.stack_gates(xp, w.h)
        A = input_side(xp, call.X.to(kind)[None], w)
        first = tuple(part[0].to(kind) for part in call.first)
        _, tape = bptt.forward(xp, cell, A, first, W_h, *w.rest)
        dY = _or_zeros(call.dY, call.Y)
        d_last = [torch.zeros_like(part) for part in first]
        if len(d_last) == 2 and call.d_last[1] is not None:
            d_last[1] = call.d_last[1][0].to(kind)
            if through_h:
                IFO, _, tanh_C = tape.kept
                O = bptt.gates(IFO[0], 3)[2]  # noqa: E741 (the letter of the equation)
                d_last[1] = d_last[1] - dY * O * (1 - tanh_C[0] * tanh_C[0])
        g = bptt.backward(xp, cell, tape, W_h, dY[None], tuple(d_last))
        gates = gate_shares(xp, [tape])
        return Layer(0, False, tape.old[0], tape.new[0], g.hidden, g.recurrent, gates=gates)


def _needs_input(call: Call, written: set[str]) -> bool:
    """Whether a call cannot be traced without what it read."""
    plain = call.cell in ("rnn", "rnn_relu") and call.layer.num_layers == 1
    return not plain or "output" in written


def _agrees(call: Call, found: torch.Tensor, Y: torch.Tensor | None) -> bool:
    """Whether outputs are what they were, by the rounding of the type; None is not known."""
    return Y is None or bool((found - Y).abs().amax() <= _rounding(call) * (1 + Y.abs().amax()))


def _rounding(call: Call) -> float:
    """What the layer's outputs may differ by."""
    # unless told otherwise cuDNN multiplies float32 in TF32: 11 bits, as many as float16 has
    tf32 = call.inner is torch.float32 and call.Y.device.type == "cuda"
    return AGREES[torch.float16 if tf32 else call.inner]


def _why(call: Call) -> str:
    """What may have kept the outputs from being computed again."""
    if not bool(torch.isfinite(call.Y).all()):
        return "its outputs were not finite in one step or more"
    if call.rng is not None:
        return "its dropout masks cannot be drawn again on this device"
    return "its outputs are not those that its equations give"


def _forward(
    parts: list[Direction], X: torch.Tensor, Y: torch.Tensor | None = None
) -> torch.Tensor:
    """The outputs of all directions of a layer, ``(N, directions * H)``, known or not."""
    known = [None] * len(parts) if Y is None else Y.chunk(len(parts), -1)
    return torch.cat([part.forward(X, side) for part, side in zip(parts, known, strict=True)], -1)


def _backward(parts: list[Direction], dY: torch.Tensor) -> list[torch.Tensor]:
    """The backward pass of all directions of a layer: the gradient at the input side of each."""
    sides = dY.chunk(len(parts), -1)
    return [part.backward(side) for part, side in zip(parts, sides, strict=True)]


@dataclass(frozen=True)
class Masks:
    """What dropout multiplied outputs by, of each layer that another reads.

    Attributes:
        each: by layer; None for 1.
        certain: whether they are those of the forward pass: from the same state of the generator
            drawing them has come to the state in which the layer has left it.
    """

    each: list[torch.Tensor | None]
    certain: bool


def _masks(call: Call, kind: torch.dtype) -> Masks:
    """The dropout masks of a call, drawn again."""
    count, rows = call.layer.num_layers - 1, call.X.shape[0]
    if call.rng is None:
        return Masks([None] * count, certain=True)
    device, dropped = call.Y.device, call.layer.dropout
    ones = call.Y.new_ones((rows, call.layer.hidden_size * call.directions))
    if device.type != "cuda":
        # as dropout does it, but from a generator of our own: other threads may draw, too
        generator, kept = torch.Generator(), 1 - dropped
        generator.set_state(call.rng)
        drawn = [torch.empty_like(ones).bernoulli_(kept, generator=generator) for _ in range(count)]
        masks = [(each.div_(kept) if kept else each).to(kind) for each in drawn]
        return Masks([*masks], torch.equal(generator.get_state(), call.drawn))
    with torch.random.fork_rng([device]):
        torch.cuda.set_rng_state(call.rng, device)
        masks = [nn.functional.dropout(ones, dropped).to(kind) for _ in range(count)]
        return Masks([*masks], torch.equal(torch.cuda.get_rng_state(device), call.drawn))


def _times(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x * mask


def _or_zeros(gradient: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
