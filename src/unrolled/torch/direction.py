"""One layer and direction of a fused layer: its way there and its way back.

Letters: T steps, B sequences, N = rows of all steps together (T * B, for packed sequences
fewer), D inputs, H hidden units, G gates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from unrolled.backends.torch import xp
from unrolled.functional import bptt
from unrolled.kernels.torch import recur
from unrolled.torch.fused import Call, Tensors

ORDER = {"rnn": (0,), "rnn_relu": (0,), "gru": (1, 0, 2), "lstm": (0, 1, 3, 2)}
"""Where PyTorch has the gates that `bptt.GATES` names: it stacks r z n, and i f g o."""


@dataclass(frozen=True)
class Layer:
    """What was found for one layer and direction, in the order in which it computes.

    Attributes:
        number: 0 is the lowest.
        reverse: whether it reads the sequences from their ends.
        before, after: hidden states around every step, ``(T, B, H)``.
        hidden: dL/dh_t, ``(T, B, H)``.
        recurrent: dL/d(H_{t-1} W_h), ``(T, B, G * H)``, gates as in `bptt.GATES`.
        running: which sequences are still running at each step, ``(T, B)``; where they
            are not, all of the above is 0. None if all are.
    """

    number: int
    reverse: bool
    before: torch.Tensor
    after: torch.Tensor
    hidden: torch.Tensor
    recurrent: torch.Tensor
    running: torch.Tensor | None = None


@dataclass(frozen=True)
class Found:
    """What the way back through a run of steps gives: gradients, dX None where not asked for."""

    dX: torch.Tensor | None
    hidden: torch.Tensor
    recurrent: torch.Tensor
    state: Tensors


class Computed:
    """A run of steps of equally many sequences, computed again by the project's kernels.

    Args:
        cell: its name in `bptt.STEPS`.
        X: ``(T, B, D)``.
        state: before the first step.
        weights: in the order of ``CELLS[cell].weights``.
    """

    def __init__(self, cell: str, X: torch.Tensor, state: Tensors, weights: Tensors) -> None:
        (T, B), H, G = X.shape[:2], state[0].shape[1], len(bptt.GATES[cell])
        # the kernels hand the inner gradients out as those of taps, which are zero
        taps = tuple(X.new_zeros(()).expand(T, B, width) for width in (H, G * H))
        self.leaves = [leaf.detach().requires_grad_() for leaf in (X, *taps, *state)]
        with torch.enable_grad():
            X, taps, state = self.leaves[0], tuple(self.leaves[1:3]), tuple(self.leaves[3:])
            self.outputs, self.ends = recur(cell, X, state, weights, taps)
        self.after, self.last = self.outputs.detach(), tuple(end.detach() for end in self.ends)

    def backward(self, dY: torch.Tensor, d_last: Tensors) -> Found:
        """From the gradients at outputs and last state."""
        results = [self.outputs, *self.ends]
        dX, hidden, recurrent, *state = torch.autograd.grad(results, self.leaves, [dY, *d_last])
        return Found(dX, hidden, recurrent, tuple(state))


class Known:
    """A run of steps of an `nn.RNN` whose hidden states are all that is known, and enough.

    Args:
        cell: ``"rnn"`` or ``"rnn_relu"``.
        after: hidden states, ``(T, B, H)``.
        state: before the first step.
        W_h: ``(H, H)``.
    """

    def __init__(self, cell: str, after: torch.Tensor, state: Tensors, W_h: torch.Tensor) -> None:
        before = torch.cat([state[0][None], after[:-1]])
        self.cell, self.W_h, self.tape = cell, W_h, bptt.Tape((before,), (after,), ())
        self.after, self.last = after, (after[-1],)

    def backward(self, dY: torch.Tensor, d_last: Tensors) -> Found:
        """From the gradients at outputs and last state."""
        g = bptt.backward(xp, self.cell, self.tape, self.W_h, dY, d_last)
        return Found(None, g.hidden, g.recurrent, g.state)


class Direction:
    """One layer and direction of a call.

    Args:
        call: of the whole layer.
        index: which one, as PyTorch counts them.
        kind: the type to compute in.
    """

    def __init__(self, call: Call, index: int, kind: torch.dtype) -> None:
        self.call, self.index, self.kind = call, index, kind
        self.reverse = bool(call.layer.bidirectional and index % 2)
        self.weights, self.W_h = our_weights(call, index, kind)
        self.first = tuple(part[index].to(kind) for part in call.first)
        self.pieces = list(_pieces(call.batch_sizes))
        ends = _reversed_rows(call.batch_sizes) if self.reverse else None
        self.rows = None if ends is None else torch.tensor(ends, device=call.X.device)
        self.runs: list[Computed | Known] = []
        self.before: list[torch.Tensor] = []

    def forward(self, X: torch.Tensor, known: bool = False) -> torch.Tensor:
        """The hidden states of every row, ``(N, H)``, in the order of the text.

        Args:
            X: what the layer reads, ``(N, D)``; or, if they are known, the hidden states.
            known: whether they are.
        """
        X, state = self._turn(X), self.first
        self.runs, self.before = [], []
        for begin, end, size in self.pieces:
            state = tuple(part[:size] for part in state)
            piece = X[begin:end].view(-1, size, X.shape[1])
            run: Computed | Known
            if known:
                run = Known(self.call.cell, piece, state, self.W_h)
            else:
                run = Computed(self.call.cell, piece, state, self.weights)
            self.runs.append(run)
            self.before.append(torch.cat([state[0][None], run.after[:-1]]))
            state = run.last
        return self._turn(torch.cat([run.after.flatten(0, 1) for run in self.runs]))

    def backward(self, dY: torch.Tensor) -> torch.Tensor | None:
        """The gradient at what the layer reads, ``(N, D)``; None if it is not known."""
        dY = self._turn(dY)
        given = self.call.d_last or [None] * len(self.first)
        d_last = [
            torch.zeros_like(part) if d is None else d[self.index].to(self.kind)
            for part, d in zip(self.first, given, strict=True)
        ]
        later: Tensors = tuple(part[:0] for part in d_last)
        self.results: list[Found] = []
        for (begin, end, size), run in reversed(list(zip(self.pieces, self.runs, strict=True))):
            # sequences that run on hand a gradient back, those that end here take their own
            arrives = tuple(
                torch.cat([old, last[len(old) : size]])
                for old, last in zip(later, d_last, strict=True)
            )
            result = run.backward(dY[begin:end].view(-1, size, dY.shape[1]), arrives)
            self.results.insert(0, result)
            later = result.state
        dX = [result.dX.flatten(0, 1) for result in self.results if result.dX is not None]
        return self._turn(torch.cat(dX)) if dX else None

    def found(self) -> Layer:
        """What `backward` has found, padded with zeros where sequences have ended."""
        sizes = self.call.batch_sizes
        running = None
        if min(sizes) < sizes[0]:
            running = torch.tensor([[b < size for b in range(sizes[0])] for size in sizes])
        return Layer(
            self.index // self.call.directions,
            self.reverse,
            self._pad(self.before),
            self._pad([run.after for run in self.runs]),
            self._pad([result.hidden for result in self.results]),
            self._pad([result.recurrent for result in self.results]),
            None if running is None else running.to(self.call.Y.device),
        )

    def _pad(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        B = self.call.batch_sizes[0]
        return torch.cat([nn.functional.pad(p, (0, 0, 0, B - p.shape[1])) for p in pieces])

    def _turn(self, rows: torch.Tensor) -> torch.Tensor:
        """Every sequence from its end, for the direction that reads backwards."""
        return rows if self.rows is None else rows[self.rows]


def our_weights(call: Call, index: int, kind: torch.dtype) -> tuple[Tensors, torch.Tensor]:
    """PyTorch's weights as those of the cell, in its order; and W_h of all gates, stacked.

    The two biases of a gate add up to one, but for the GRU's candidate: there the reset gate
    scales the second.
    """
    W_ih, W_hh, *biases = [weight.to(kind) for weight in call.weights[index]]
    b_ih, b_hh = biases or (W_hh.new_zeros(len(W_hh)),) * 2
    H, weights, stacked = call.layer.hidden_size, [], []
    for place in ORDER[call.cell]:
        gate = slice(place * H, (place + 1) * H)
        apart = call.cell == "gru" and place == 2
        b = b_ih[gate] if apart else b_ih[gate] + b_hh[gate]
        weights += [W_ih[gate].T, W_hh[gate].T, b]
        stacked.append(W_hh[gate].T)
    rest = (b_hh[2 * H :],) if call.cell == "gru" else ()
    return (*weights, *rest), torch.cat(stacked, 1)


def _pieces(batch_sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of steps with equally many sequences: first row, row after the last, how many.

    Example:
        >>> list(_pieces([3, 3, 1]))
        [(0, 6, 3), (6, 7, 1)]
    """
    begin = end = 0
    for t, size in enumerate(batch_sizes):
        end += size
        if t + 1 == len(batch_sizes) or batch_sizes[t + 1] != size:
            yield begin, end, size
            begin = end


def _reversed_rows(batch_sizes: Sequence[int]) -> list[int]:
    """Where each row goes when every sequence is read from its end; its own inverse.

    Example:
        >>> _reversed_rows([2, 1, 1])  # a sequence of three, one of one
        [3, 1, 2, 0]
    """
    starts = [0]
    for size in batch_sizes:
        starts.append(starts[-1] + size)
    lengths = [sum(size > b for size in batch_sizes) for b in range(batch_sizes[0])]
    return [
        starts[lengths[b] - 1 - t] + b for t, size in enumerate(batch_sizes) for b in range(size)
    ]
