"""`Reader` and `Reading`: write a text with a language model in one native call."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.native import pool
from unrolled.native.calls import address, check, fill, name_of, precision_of
from unrolled.native.interface import CELLS, LanguageModel, LayerWeights, Text
from unrolled.native.loading import in_use, loaded

Array = npt.NDArray[Any]


class Reader:
    """Recurrent layers of one kind and the logits of the last, packed for many short steps.

    The arrays are NumPy's. Many texts may be read at the same time; each has a `Reading`. The
    threads are those of the process's OpenMP; a step is too short to start others.

    Args:
        cell: as in `forward`.
        W_x, W_h, biases: of each layer, from the ids up, G arrays: ``W_x`` has ``(V, H)`` in the
            first layer, then ``(H, H)``; ``W_h`` ``(H, H)``; ``biases`` ``(H,)``.
        b_hh: of each layer, ``(H,)``, of the GRU's recurrent candidate; zeros if there are none.
        W_hq, b_q: ``(H, V)`` and ``(V,)``.
        threads: from 1 up; 0 for as many as the weights are worth and OpenMP has.

    Raises:
        ValueError: an array of another shape or type, or not contiguous.

    Example:
        >>> import numpy as np
        >>> from unrolled.native import available
        >>> W, b = np.eye(3), np.zeros(3)
        >>> if available()[0]:
        ...     reading = Reading(Reader("rnn", [[W]], [[0 * W]], [[b]], [], W, b))
        ...     logits = reading.read(np.array([0, 2]))
        ... else:
        ...     logits = np.tanh([0.0, 0.0, 1.0])
        >>> logits.round(2)
        array([0.  , 0.  , 0.76])
    """

    def __init__(
        self,
        cell: str,
        W_x: Sequence[Sequence[Array]],
        W_h: Sequence[Sequence[Array]],
        biases: Sequence[Sequence[Array]],
        b_hh: Sequence[Array],
        W_hq: Array,
        b_q: Array,
        threads: int = 0,
    ) -> None:
        (H, V), type = W_hq.shape, name_of(W_hq.dtype)
        self.model = LanguageModel(
            cell=[*CELLS].index(cell),
            precision=precision_of("", type),
            instructions=in_use(),
            layers=len(W_h),
            H=H,
            V=V,
            layer=(LayerWeights * len(W_h))(),
        )
        for i in range(len(W_h)):
            weights = {"W_x": W_x[i], "W_h": W_h[i], "biases": biases[i]}
            rest = {"b_hh": b_hh[i]} if b_hh else {}
            sizes = {"D": H if i else V, "H": H}
            fill(self.model.layer[i], type, sizes, weights | rest)
        fill(self.model, type, {"H": H, "V": V}, {"W_hq": W_hq, "b_q": b_q})
        argument = ctypes.byref(self.model)
        packed = pool.empty((max(0, loaded().unrolled_packed_bytes(argument)),), np.uint8)
        self.model.packed = packed.ctypes.data
        self.kept = W_x[0], biases, b_hh, b_q, packed  # still read; an address keeps nothing
        self.dtype = W_hq.dtype
        self.threads = threads or loaded().unrolled_read_threads(argument)
        check(loaded().unrolled_pack(argument))


class Reading:
    """One text that a model reads, and the state it has come to; at first that before all ids.

    Everything that a step needs is made here, so that a step is little more than its arithmetic.
    """

    def __init__(self, reader: Reader) -> None:
        model = reader.model
        states = 2 if model.cell == [*CELLS].index("lstm") else 1
        bytes = loaded().unrolled_read_workspace(ctypes.byref(model))
        self.reader = reader
        self.state = np.zeros((model.layers, states, model.H), reader.dtype)
        self.logits = np.empty(model.V, reader.dtype)
        self.workspace = np.empty(bytes, np.uint8)
        self.ids = np.empty(0, np.int64)  # long enough for the longest call so far
        self.text = Text(
            model=ctypes.pointer(model),
            threads=reader.threads,
            openmp=True,
            state=self.state.ctypes.data,
            logits=self.logits.ctypes.data,
            workspace=self.workspace.ctypes.data,
        )
        self.argument = ctypes.byref(self.text)
        self.function = loaded().unrolled_read

    def read(self, ids: npt.NDArray[np.int64]) -> Array:
        """Logits ``(V,)`` after the next ids ``(T,)``."""
        self._call(ids, 0)
        return self.logits.copy()

    def write(
        self,
        ids: npt.NDArray[np.int64],
        count: int,
        uniform: npt.NDArray[np.float64] | None = None,
        temperature: float = 1.0,
    ) -> npt.NDArray[np.int64]:
        """Read the next ids ``(T,)``, then choose more and read those."""
        if uniform is not None:
            self.text.uniform = address(uniform, (count,), "float64")
            self.text.temperature = temperature
        try:
            self._call(ids, count)
        finally:
            self.text.uniform = None
        return self.ids[len(ids) : len(ids) + count].copy()

    def _call(self, ids: npt.NDArray[np.int64], count: int) -> None:
        given = len(ids)
        if len(self.ids) < given + count:
            self.ids = np.empty(given + count, np.int64)
            self.text.ids = self.ids.ctypes.data
        self.ids[:given] = ids
        self.text.given, self.text.T = given, given + count
        check(self.function(self.argument))
