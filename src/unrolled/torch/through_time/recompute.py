"""Recompute the gradients through time of `nn.RNN`, `nn.GRU`, `nn.LSTM` from one call.

What goes on between the time steps of a fused layer is nowhere to be hooked. But weights, inputs,
outputs and the gradient that arrives at them determine it: one more forward and one more backward
pass by the equations of `unrolled.functional.bptt` give dL/dh_t of every step, layer and
direction, exactly. It is less work than the layer's own: the top layer's hidden states are known,
and nobody asks for the gradients of weights.

Letters: T steps, B sequences, N = rows of all steps together (T * B, for packed sequences
fewer), D inputs, H hidden units, G gates.
"""

import torch

from unrolled.torch.through_time.direction import Direction
from unrolled.torch.through_time.fused_call import FusedCall

AGREES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How near the recomputed outputs must come to those of the layer, by its type."""


@torch.no_grad()
def recompute(call: FusedCall) -> list[Direction] | str:
    """Every layer and direction of a call; or a note that says why they cannot be known.

    The outputs are computed again and compared; those of an `nn.RNN` with one layer are its
    hidden states, and need not be.
    """
    if written := call.overwritten():
        names = " and ".join(written)
        return f"not traced: written to before the backward pass was over: {names}"
    with torch.autocast(call.Y.device.type, enabled=False):
        kind = torch.promote_types(call.Y.dtype, torch.float32)
        sides = call.directions
        every = [Direction(call, i, kind) for i in range(call.layer.num_layers * sides)]
        layers = [every[i : i + sides] for i in range(0, len(every), sides)]
        masks = _masks(call, kind)
        if masks is None:
            return "not traced: its dropout masks cannot be drawn again"
        X, Y = call.X.to(kind), call.Y.to(kind)
        dY, d_last = call.arrived(kind)
        if call.cell in ("rnn", "rnn_relu") and len(layers) == 1:
            for part, side in zip(layers[0], Y.chunk(sides, -1), strict=True):
                part.take(side)
        else:
            for parts, mask in zip(layers[:-1], masks, strict=True):
                X = _times(_forward(parts, X), mask)
            difference = (_forward(layers[-1], X, Y) - Y).abs().amax()
            if not bool(difference <= _rounding(call) * (1 + Y.abs().amax())):
                finite = bool(torch.isfinite(Y).all())
                why = "are not those that its equations give" if finite else "were not finite"
                return f"not traced: its outputs {why}"
        for number in reversed(range(len(layers))):
            parts = layers[number]
            of_sides = zip(parts, dY.chunk(sides, -1), strict=True)
            dA = [part.backward(side, d_last) for part, side in of_sides]
            if number > 0:  # what is read are the outputs of all directions of the layer below
                dX = [part.at_inputs(d) for part, d in zip(parts, dA, strict=True)]
                dY = _times(torch.stack(dX).sum(0), masks[number - 1])
        return every


def _forward(
    parts: list[Direction], X: torch.Tensor, Y: torch.Tensor | None = None
) -> torch.Tensor:
    """The outputs of all directions of a layer, ``(N, directions * H)``, known or not."""
    known = [None] * len(parts) if Y is None else Y.chunk(len(parts), -1)
    return torch.cat([part.forward(X, side) for part, side in zip(parts, known, strict=True)], -1)


def _rounding(call: FusedCall) -> float:
    """Difference that rounding may make between the layer's outputs and ours."""
    # unless told otherwise cuDNN multiplies float32 in TF32: 11 bits, as many as float16 has
    tf32 = call.inner is torch.float32 and call.Y.device.type == "cuda"
    return AGREES[torch.float16 if tf32 else call.inner]


def _masks(call: FusedCall, kind: torch.dtype) -> list[torch.Tensor | None] | None:
    """Dropout masks of all layers except the last; None if they are not known.

    Drawn again from the generator's state before the call. They are those of the layer if that
    comes to the state in which the layer has left it. cuDNN draws in its own way.
    """
    count, kept = call.layer.num_layers - 1, 1 - call.layer.dropout
    if call.rng is None or call.drawn is None:
        return [None] * count
    if call.Y.device.type != "cpu":
        return None
    generator = torch.Generator()  # our own: other threads may draw, too
    generator.set_state(call.rng)
    ones = call.Y.new_ones((call.X.shape[0], call.layer.hidden_size * call.directions))
    drawn = [torch.empty_like(ones).bernoulli_(kept, generator=generator) for _ in range(count)]
    if not torch.equal(generator.get_state(), call.drawn):
        return None
    return [(mask.div_(kept) if kept else mask).to(kind) for mask in drawn]


def _times(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x * mask
