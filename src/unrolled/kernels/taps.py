"""`tracing` notes the recurrent layers that run, and hands them taps: zeros to differentiate by.

Inside ``with tracing() as trace`` every recurrent layer that runs notes its hidden states.
With *taps* the gradients come too, without hooks and for any framework: a tap is an array of
zeros that is added to an inner value, so the two have the same gradient. Taps are leaves to
differentiate beside the parameters; the engine computes their gradients anyway.

A layer has two: ``<layer>.hidden``, at every hidden state ``H_t``, ``(T, B, H)``, and
``<layer>.recurrent``, at every product ``H_{t-1} W_h``, ``(T, B, G * H)``, in the order in
which the layer reads the sequence.

A sequence may be run in pieces, as truncation does: then every layer runs once for each piece,
and from the second piece on its name ends in the number of the piece, ``layers.0#1``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from unrolled.backends.namespace import Array


@dataclass(frozen=True)
class Layer:
    """One recurrent layer of a traced forward pass.

    Attributes:
        cell: its name in `unrolled.functional.bptt.GATES`.
        first: the hidden state before the first step, ``(B, H)``.
        after: hidden states after every step, ``(T, B, H)``.
        reverse: whether it reads the sequence from its end.
    """

    cell: str
    first: Array
    after: Array
    reverse: bool = False


@dataclass
class Trace:
    """What a traced forward pass has met.

    Attributes:
        taps: arrays of zeros by name; empty for a first look that tells their shapes.
        layers: by name, ``"layers.0"``, ``"layers.1"``, ... in the order in which they ran;
            the backward half of a bidirectional layer is ``"layers.0.backward"``.
        shapes: of the taps that the layers would take, by name.
        cuts: for every piece of the sequence whether no gradient flows out of it into the
            one before; empty where the sequence runs as a whole.
    """

    taps: Mapping[str, Array] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    cuts: list[bool] = field(default_factory=list)
    _ran: list[str] = field(default_factory=list)

    def begin_piece(self, cut: bool) -> None:
        """The layers run once more, on the piece of the sequence that comes next."""
        self.cuts.append(cut)
        self._ran = []

    def next_taps(self, reverse: bool = False) -> tuple[str, tuple[Array, ...]]:
        """The name of the layer that comes next, and its taps, if there are any."""
        name, before = f"layers.{len(self._ran)}", self._ran[-1] if self._ran else ""
        if reverse:
            name = (before if before and not before.endswith(BACKWARD) else name) + BACKWARD
        piece = f"#{len(self.cuts) - 1}" if len(self.cuts) > 1 else ""
        names = (f"{name}{piece}.hidden", f"{name}{piece}.recurrent")
        return name + piece, tuple(self.taps[n] for n in names) if names[0] in self.taps else ()

    def note(self, name: str, layer: Layer, num_gates: int) -> None:
        """Keep a layer that has run."""
        base, _, _ = name.partition("#")
        self._ran = [ran for ran in self._ran if f"{ran}{BACKWARD}" != base] + [base]
        self.layers[name] = layer
        T, B, H = layer.after.shape
        self.shapes |= {f"{name}.hidden": (T, B, H), f"{name}.recurrent": (T, B, num_gates * H)}


BACKWARD = ".backward"

running: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace that is being made, if any."""


def begin_piece(cut: bool) -> None:
    """Tell the trace, if one is being made, that the next piece of a sequence begins."""
    trace = running.get()
    if trace is not None:
        trace.begin_piece(cut)


@contextmanager
def tracing(taps: Mapping[str, Array] | None = None) -> Iterator[Trace]:
    """Trace the recurrences that run inside.

    Example:
        >>> import numpy as np
        >>> from unrolled import torch
        >>> from unrolled.kernels import recur
        >>> from unrolled.functional.recurrent import CELLS
        >>> X, H, weights = torch.backend.asarray(np.ones((4, 2, 3), "f")), 5, []
        >>> for shape in CELLS["rnn"].shapes(3, H).values():
        ...     weights.append(torch.backend.asarray(np.full(shape, 0.1, "f")))
        >>> state = (torch.backend.asarray(np.zeros((2, H), "f")),)
        >>> with tracing() as trace:
        ...     outputs, _ = recur(torch.backend, CELLS["rnn"], X, state, weights)
        >>> trace.shapes
        {'layers.0.hidden': (4, 2, 5), 'layers.0.recurrent': (4, 2, 5)}
    """
    trace = Trace(taps or {})
    token = running.set(trace)
    try:
        yield trace
    finally:
        running.reset(token)
