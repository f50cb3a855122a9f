"""`Direction`: forward and backward pass of one layer and direction of a fused layer.

Letters: T steps, B sequences, N = rows of all steps together (T * B, for packed sequences
fewer), D inputs, H hidden units, G gates.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from unrolled.functional import bptt
from unrolled.kernels.analytic_backward import Weights, input_side
from unrolled.kernels.torch import through_time, xp
from unrolled.models.weights import GATE_ORDERS
from unrolled.torch.through_time.fused_call import FusedCall, Tensors

ORDER = {
    cell: tuple(GATE_ORDERS["torch"][cell].index(gate) for gate in gates)
    for cell, gates in bptt.GATES.items()
}
"""Places of the gates of `bptt.GATES` among PyTorch's."""


class Arrays(NamedTuple):
    """Arrays over all steps, which `unrolled.telemetry.through_time.layer_numbers` takes."""

    hidden: torch.Tensor  # dL/dh_t, (T, B, H)
    recurrent: torch.Tensor  # dL/d(H_{t-1} W_h), (T, B, G * H), gates as in `bptt.GATES`
    before: torch.Tensor  # hidden states before the step, (T, B, H)
    after: torch.Tensor  # hidden states after it, (T, B, H)


class Direction:
    """One layer and direction of a call; its steps are in the order in which it computes.

    ``index`` is which one, as PyTorch counts them; ``kind`` the type to compute in.
    """

    def __init__(self, call: FusedCall, index: int, kind: torch.dtype) -> None:
        self.call, self.index = call, index
        self.number = index // call.directions  # of the layer; 0 is the lowest
        self.reverse = bool(call.layer.bidirectional and index % 2)
        self.weights = our_weights(call, index, kind)
        self.W_h = bptt.stack_gates(xp, self.weights.h)  # (H, G * H)
        self.first = tuple(part[index].to(kind) for part in call.first)
        self.pieces = list(_pieces(call.batch_sizes))
        ends = _reversed_rows(call.batch_sizes) if self.reverse else None
        self.rows = None if ends is None else torch.tensor(ends, device=call.X.device)
        self.tapes: list[bptt.Tape] = []
        self.results: list[bptt.Gradients] = []

    def take(self, Y: torch.Tensor) -> None:
        """The forward pass of an `nn.RNN`, whose hidden states ``(N, H)`` are all it needs."""
        state, Y = self.first, self._turn(Y)
        for begin, end, size in self.pieces:
            known = Y[begin:end].view(-1, size, Y.shape[1])
            before = bptt.shifted(xp, state[0][:size], known)
            self.tapes.append(bptt.Tape((before,), (known,), ()))
            state = (known[-1],)

    def forward(self, X: torch.Tensor, Y: torch.Tensor | None = None) -> torch.Tensor:
        """The hidden states ``(N, H)`` that follow from inputs ``(N, D)``.

        It is much less work if they are known, as ``Y``.
        """
        cell, (b_hh,) = self.call.cell, self.weights.rest or (0.0,)
        A = self._turn(input_side(xp, X, self.weights))  # (N, G * H)
        Y = None if Y is None else self._turn(Y)
        state = self.first
        for begin, end, size in self.pieces:
            state = tuple(part[:size] for part in state)
            A_piece = A[begin:end].view(-1, size, A.shape[1])
            if Y is None:
                _, tape = bptt.forward(xp, cell, A_piece, state, self.W_h, b_hh)
            else:
                known = Y[begin:end].view(-1, size, Y.shape[1])
                tape = bptt.retrace(xp, cell, A_piece, state, known, self.W_h, b_hh)
            self.tapes.append(tape)
            state = tuple(part[-1] for part in tape.new)
        return self._turn(joined([tape.new[0].flatten(0, 1) for tape in self.tapes]))

    def backward(self, dY: torch.Tensor, d_last: Sequence[torch.Tensor]) -> torch.Tensor:
        """The gradient at the input side, ``(N, G * H)``, from that at the outputs, ``(N, H)``.

        ``d_last`` are those at the arrays of the last state, of all layers and directions.
        """
        dY, ends = self._turn(dY), [d[self.index] for d in d_last]
        later: Tensors = tuple(d[:0] for d in ends)
        for (begin, end, size), tape in reversed(list(zip(self.pieces, self.tapes, strict=True))):
            # sequences that run on hand a gradient back, those that end here take their own
            arrives = tuple(
                torch.cat([old, last[len(old) : size]])
                for old, last in zip(later, ends, strict=True)
            )
            dY_piece = dY[begin:end].view(-1, size, dY.shape[1])
            result = through_time(self.call.cell, tape, self.weights.h, dY_piece, arrives)
            self.results.insert(0, result)
            later = result.state
        return self._turn(joined([result.inputs.flatten(0, 1) for result in self.results]))

    def at_inputs(self, dA: torch.Tensor) -> torch.Tensor:
        """The gradient at what the layer reads, ``(N, D)``."""
        dX: torch.Tensor = dA @ bptt.stack_gates(xp, self.weights.x).T
        return dX

    def arrays(self) -> "Arrays":
        """Arrays over all steps, padded with 0 where sequences have ended."""
        pieces = zip(self.results, self.tapes, strict=True)
        rows = [(r.hidden, r.recurrent, tape.old[0], tape.new[0]) for r, tape in pieces]
        return Arrays(*(self._pad(list(parts)) for parts in zip(*rows, strict=True)))

    def running(self) -> torch.Tensor | None:
        """Which sequences are still running at each step, ``(T, B)``; None if all are."""
        sizes, device = self.call.batch_sizes, self.call.Y.device
        if min(sizes) == sizes[0]:
            return None
        return torch.tensor([[b < size for b in range(sizes[0])] for size in sizes], device=device)

    def _pad(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        missing = [self.call.batch_sizes[0] - piece.shape[1] for piece in pieces]
        padded = zip(pieces, missing, strict=True)
        return joined([nn.functional.pad(p, (0, 0, 0, m)) if m else p for p, m in padded])

    def _turn(self, rows: torch.Tensor) -> torch.Tensor:
        """Every sequence from its end, for the direction that reads backwards."""
        return rows if self.rows is None else rows[self.rows]


def our_weights(call: FusedCall, index: int, kind: torch.dtype) -> Weights:
    """PyTorch's weights as those of the cell, gate by gate in its order.

    The two biases of a gate add up to one, except those of the GRU's candidate: there the reset
    gate scales the second.
    """
    W_ih, W_hh, *biases = [weight.to(kind) for weight in call.weights[index]]
    b_ih, b_hh = biases or (W_hh.new_zeros(len(W_hh)),) * 2
    by_gate = [torch.split(x, call.layer.hidden_size) for x in (W_ih, W_hh, b_ih, b_ih + b_hh)]
    x, h, alone, both = ([parts[place] for place in ORDER[call.cell]] for parts in by_gate)
    W_x, W_h = [W.T for W in x], [W.T for W in h]
    if call.cell == "gru":
        return Weights(W_x, W_h, [*both[:2], alone[2]], (b_hh[2 * call.layer.hidden_size :],))
    return Weights(W_x, W_h, both, ())


def joined(pieces: list[torch.Tensor]) -> torch.Tensor:
    """All rows; without a copy if there is but one piece, as there mostly is."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _pieces(batch_sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of steps with equally many sequences: first row, row after the last, how many."""
    begin = end = 0
    for t, size in enumerate(batch_sizes):
        end += size
        if t + 1 == len(batch_sizes) or batch_sizes[t + 1] != size:
            yield begin, end, size
            begin = end


def _reversed_rows(batch_sizes: Sequence[int]) -> list[int]:
    """Places of the rows when every sequence is read from its end; its own inverse.

    For a sequence of three steps and one of one (batch sizes 2, 1, 1) they are 3, 1, 2, 0.
    """
    starts = [0]
    for size in batch_sizes:
        starts.append(starts[-1] + size)
    lengths = [sum(size > b for size in batch_sizes) for b in range(batch_sizes[0])]
    return [
        starts[lengths[b] - 1 - t] + b for t, size in enumerate(batch_sizes) for b in range(size)
    ]
