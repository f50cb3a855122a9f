"""Compare the native kernels with NumPy over many batch sizes, in a process that may crash.

``python -m unrolled.kernelcheck`` prints what it has found; before each case it writes a line to
standard error, so that whoever started it knows where it ended.
"""

import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from unrolled import native
from unrolled.backends.numpy import xp
from unrolled.functional import bptt

BATCHES = (1, 5, 6, 7, 8, 31, 32, 33, 61, 62, 63, 64, 96, 121, 128, 256, 1024)
"""Around the tiles and blocks of rows that the kernels work in, and what people train with."""

STEPS, HIDDENS = 2, 21

ROUNDING = {"float32": 1e-4, "float64": 1e-10}
"""The largest relative difference that rounding explains."""


class Case:
    """A cell with random weights and inputs, and what NumPy makes of them in float64."""

    def __init__(self, cell: str) -> None:
        rng = np.random.default_rng(0)
        T, B, H, G = STEPS, max(BATCHES), HIDDENS, native.CELLS[cell]
        self.cell, self.G = cell, G
        self.A = rng.standard_normal((T, B, G * H))
        self.W = rng.standard_normal((H, G * H)) / math.sqrt(H)
        self.b_hh = rng.standard_normal(H) if cell == "gru" else None
        self.state = [rng.standard_normal((B, H)) for _ in range(2 if cell == "lstm" else 1)]
        self.dY = rng.standard_normal((T, B, H))
        zeros = tuple(np.zeros_like(part) for part in self.state)
        b_hh = 0.0 if self.b_hh is None else self.b_hh
        _, self.tape = bptt.forward(xp, cell, self.A, tuple(self.state), self.W, b_hh)
        self.gradients = bptt.backward(xp, cell, self.tape, self.W, self.dY, zeros)

    def differences(self, B: int, dtype: str, threads: int) -> Iterator[float]:
        """How far the kernels are from NumPy for the first ``B`` sequences."""
        T, H, G = STEPS, HIDDENS, self.G

        def given(array: Any) -> Any:
            return np.ascontiguousarray(array, dtype)

        def empty(*shape: int) -> Any:
            return np.full(shape, np.nan, dtype)

        W_h = [given(W) for W in np.split(self.W, G, -1)]
        outputs, D, dH = empty(T, B, H), empty(T, B, G * H), empty(T, B, H)
        dW_h = [empty(H, H) for _ in range(G)]
        kept: dict[str, Any] = {"h0": given(self.state[0][:B])}
        if self.cell == "lstm":
            kept |= {"c0": given(self.state[1][:B]), "cells": empty(T, B, H)}
        if self.cell in ("gru", "lstm"):
            kept["gates"] = empty(T, B, 4 * H)
        b_hh, dA = (None, None) if self.b_hh is None else (given(self.b_hh), empty(*D.shape))
        inputs, dY = given(self.A[:, :B]), given(self.dY[:, :B])
        native.forward(self.cell, inputs, W_h, outputs, b_hh=b_hh, threads=threads, **kept)
        native.backward(
            self.cell, W_h, outputs, D, d_outputs=dY, dA=dA, dH=dH, dW_h=dW_h, threads=threads,
            **kept,
        )  # fmt: skip
        yield _difference(outputs, self.tape.new[0][:, :B])
        yield _difference(D, self.gradients.recurrent[:, :B])
        yield _difference(dH, self.gradients.hidden[:, :B])
        before, after = (
            array[:, :B].reshape(T * B, -1)
            for array in (self.tape.old[0], self.gradients.recurrent)
        )
        yield _difference(np.concatenate(dW_h, -1), before.T @ after)


def _difference(found: Any, truth: Any) -> float:
    return float(np.max(np.abs(found - truth)) / np.max(np.abs(truth)))


def check() -> Iterator[str]:
    """Run every case; lines for a person."""
    threads = min(os.cpu_count() or 1, 4)
    largest, cases = dict.fromkeys(ROUNDING, 0.0), 0
    for cell in native.CELLS:
        case = Case(cell)
        for dtype in ROUNDING:
            for B in BATCHES:
                print(f"{cell}, batch size {B}, {dtype}, {threads} threads", file=sys.stderr)
                found = [largest[dtype], *case.differences(B, dtype, threads)]
                largest[dtype] = float(np.max(found))  # NumPy's: one NaN makes the whole NaN
                cases += 1
    shown = ", ".join(f"{difference:.0e} in {dtype}" for dtype, difference in largest.items())
    sizes = f"batch sizes {min(BATCHES)} to {max(BATCHES):,}"
    yield f"{cases} cases, {sizes}, largest difference from NumPy: {shown}"
    if not all(largest[dtype] <= most for dtype, most in ROUNDING.items()):
        yield "WRONG: that is not rounding. Go on without: UNROLLED_NATIVE=off unrolled ..."


if __name__ == "__main__":
    for line in check():
        print(line)
