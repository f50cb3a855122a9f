"""Passes through time as CUDA graphs: what a GPU was told once, it is told again in one start.

A step of a recurrence is a few small operations. The CPU takes longer to start them than the GPU
to compute them, and T steps are hundreds of starts. A CUDA graph keeps the operations together
with the addresses that they read and write, so every call copies its arrays to those addresses
and the results away from them. What a call gave back is therefore never overwritten by a later
one: any number of forward passes may wait for their backward passes.

Where there is no GPU the tests put in the graph's place what computes again at each replay.

Reference: NVIDIA, CUDA programming guide, the chapter on CUDA graphs.
"""

from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock

import torch

from unrolled.backends.namespace import Namespace
from unrolled.functional import bptt
from unrolled.kernels.analytic_backward import Passes

Tensors = tuple[torch.Tensor, ...]
Record = Callable[[Callable[[], Tensors]], tuple[Tensors, Callable[[], None]]]
"""What makes of a computation the tensors that hold its results, and what computes it again
into them, from what then is in the tensors that it reads."""

WARM_UP = 3
"""Runs before the recording, in which libraries choose their algorithms and set up memory."""


def cuda_graph(
    compute: Callable[[], Tensors], warm_up: int = WARM_UP
) -> tuple[Tensors, Callable[[], None]]:
    """A CUDA graph of a computation, as a `Record`."""
    here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(warm_up):
            compute()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # thread_local: other threads, those that load data for one, may allocate meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = compute()
    return results, graph.replay


class Captured:
    """A computation on tensors, recorded for shapes and types like those of ``arrays``."""

    def __init__(
        self, compute: Callable[..., Tensors], arrays: Tensors, record: Record = cuda_graph
    ) -> None:
        self._inputs = tuple(x.clone(memory_format=torch.contiguous_format) for x in arrays)
        self._results, self._replay = record(partial(compute, *self._inputs))
        self._lock = Lock()

    def __call__(self, *arrays: torch.Tensor) -> Tensors:
        """The results for these arrays, in memory of their own."""
        with self._lock:  # another thread must not put its arrays in between
            for place, array in zip(self._inputs, arrays, strict=True):
                place.copy_(array)
            self._replay()
            copies = {id(x): x.clone() for x in self._results}  # the same tensor twice: one copy
        return tuple(copies[id(x)] for x in self._results)


class Graphs:
    """Passes recorded at the first call of a shape and replayed at the others.

    Args:
        passes: what is recorded.
        keep: whether there will be a backward pass; without, `forward` gives a tape with nothing
            but the states.
        record: how.
    """

    def __init__(self, passes: Passes, keep: bool = True, record: Record = cuda_graph) -> None:
        self.passes, self.keep, self.record = passes, keep, record
        self._captured: dict[Hashable, Captured] = {}

    def forward(
        self,
        xp: Namespace,
        cell: str,
        A: torch.Tensor,
        state: Tensors,
        W_h: torch.Tensor,
        b_hh: torch.Tensor | float = 0.0,
    ) -> tuple[bptt.Arrays, bptt.Tape]:
        """See `unrolled.functional.bptt.forward`."""
        n, bias = len(state), (b_hh,) if isinstance(b_hh, torch.Tensor) else ()

        def there(A: torch.Tensor, W_h: torch.Tensor, *rest: torch.Tensor) -> Tensors:
            last, tape = self.passes.forward(xp, cell, A, rest[:n], W_h, *rest[n:])
            return (*last, *tape.new, *((*tape.old, *tape.kept) if self.keep else ()))

        recorded = len(self._captured)
        found = self._run(("there", cell), there, (A, W_h, *state, *bias))
        last, new, old, kept = _parts(found, n)
        tape = bptt.Tape(old, new, kept)
        if self.keep and len(self._captured) > recorded:
            # record the backward pass now: there a thread of autograd's would have to
            self.backward(xp, cell, tape, W_h, new[0], last)
        return last, tape

    def backward(
        self,
        xp: Namespace,
        cell: str,
        tape: bptt.Tape,
        W_h: torch.Tensor,
        dY: torch.Tensor,
        d_last: Tensors,
    ) -> bptt.Gradients:
        """See `unrolled.functional.bptt.backward`."""
        n = len(d_last)

        def back(W_h: torch.Tensor, dY: torch.Tensor, *rest: torch.Tensor) -> Tensors:
            d_last, old, new, kept = _parts(rest, n)
            g = self.passes.backward(xp, cell, bptt.Tape(old, new, kept), W_h, dY, d_last)
            return (g.inputs, g.recurrent, g.hidden, *g.state)

        arrays = (W_h, dY, *d_last, *tape.old, *tape.new, *tape.kept)
        inputs, recurrent, hidden, *first = self._run(("back", cell), back, arrays)
        return bptt.Gradients(inputs, recurrent, hidden, tuple(first))

    def _run(
        self, name: tuple[str, str], compute: Callable[..., Tensors], arrays: Tensors
    ) -> Tensors:
        device = arrays[0].device
        if arrays[0].is_cuda and torch.cuda.is_current_stream_capturing():
            return compute(*arrays)  # a graph of the user's takes the operations in
        # two streams must not share the places where a graph reads and writes
        stream = torch.cuda.current_stream(device).cuda_stream if arrays[0].is_cuda else 0
        key = (name, device, stream, *((x.shape, x.dtype) for x in arrays))
        # what is made for later must be usable with gradients, wherever the first call came from
        with torch.inference_mode(False), torch.no_grad():
            if key not in self._captured:
                self._captured[key] = Captured(compute, arrays, self.record)
            return self._captured[key](*arrays)


def _parts(arrays: Tensors, n: int) -> tuple[Tensors, Tensors, Tensors, Tensors]:
    """Three times n arrays, and the others."""
    return arrays[:n], arrays[n : 2 * n], arrays[2 * n : 3 * n], arrays[3 * n :]
