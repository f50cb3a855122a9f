"""Speed of the native kernels alone: forward, backward and weight gradient of each cell.

GFLOP/s of the recurrent products, 2 T B H^2 G each, beside what the machine's matrix product
(``torch.mm``) reaches in the same run. Everything is timed in turn, round after round, on
random numbers (zeros are faster); given are the median and the middle half of all rounds. On a
shared machine believe the quickest run.

    python benchmarks/kernel.py --hiddens 512 --cells rnn lstm
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from unrolled import native

BATCH_SIZE, NUM_STEPS, VOCABULARY = 32, 35, 28

Work = tuple[Callable[[], object], float]
"""What to time, and its floating point operations."""


def layer(cell: str, H: int, threads: int, precision: str) -> dict[str, Work]:
    """The three passes of a recurrent layer, each ready to run."""
    T, B, G = NUM_STEPS, BATCH_SIZE, native.CELLS[cell]
    W_x, W_h = ([torch.randn(n, H) / H**0.5 for _ in range(G)] for n in (VOCABULARY, H))
    biases, ids = [torch.randn(H) for _ in range(G)], torch.randint(VOCABULARY, (T, B))
    outputs, dY, D = torch.empty(T, B, H), torch.randn(T, B, H), torch.empty(T, B, G * H)
    gated, how = cell in ("gru", "lstm"), {"precision": precision, "threads": threads}
    kept = {
        "h0": torch.randn(B, H),
        "c0": torch.randn(B, H) if cell == "lstm" else None,
        "cells": torch.empty(T, B, H) if cell == "lstm" else None,
        "gates": torch.empty(T, B, 4 * H) if gated else None,
    }
    dA = torch.empty_like(D) if cell == "gru" else None
    dW_h, operations = torch.empty(H, G * H), 2.0 * T * B * H * H * G

    def forward() -> None:
        native.forward(cell, W_x, W_h, outputs, ids=ids, biases=biases, **kept, **how)

    def backward() -> None:
        native.backward(cell, W_h, outputs, D, d_outputs=dY, dA=dA, **kept, **how)

    def weights() -> None:
        rows = outputs.view(T * B, H), D.view(T * B, G * H)
        native.product(*rows, dW_h, transpose_a=True, **how)

    passes = {"forward": forward, "backward": backward, "weight gradient": weights}
    for run in passes.values():
        run()  # each reads what the one before wrote
    return {name: (run, operations) for name, run in passes.items()}


def product(H: int) -> Work:
    """The machine's own product, of the shape of one weight gradient."""
    K = BATCH_SIZE * NUM_STEPS
    A, B, C = torch.randn(K, H), torch.randn(H, H), torch.empty(K, H)
    return lambda: torch.mm(A, B, out=C), 2.0 * K * H * H


def race(works: dict[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each, in turn, and its GFLOP/s at the median."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 2):
        for name, (run, _operations) in works.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    results = {}
    for name, (_run, operations) in works.items():
        low, middle, high = statistics.quantiles(seconds[name][2:], n=4)
        results[name] = {
            "ms": middle * 1e3,
            "ms_low": low * 1e3,
            "ms_high": high * 1e3,
            "gflop_per_s": operations / middle * 1e-9,
        }
    return results


def main() -> None:
    """Time all that is asked for; print a table, keep it if told where."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["rnn", "gru", "lstm"])
    parser.add_argument("--hiddens", nargs="+", type=int, default=[256, 512, 1024])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    print(f"{native.available()[1]}, {args.precision}, {args.threads} threads, ", end="")
    print(f"B = {BATCH_SIZE}, T = {NUM_STEPS}; ms: median (middle half); GFLOP/s at the median")
    kept = {}
    for cell in args.cells:
        for H in args.hiddens:
            works = layer(cell, H, args.threads, args.precision) | {"torch.mm": product(H)}
            kept[f"{cell} {H}"] = results = race(works, args.rounds)
            for name, r in results.items():
                spread = f"({r['ms_low']:.2f} to {r['ms_high']:.2f})"
                speed = f"{r['gflop_per_s']:>5.0f} GFLOP/s"
                print(f"{cell:<8} H = {H:<5} {name:<15} {r['ms']:>8.2f} {spread:<18} {speed}")
    if args.json:
        args.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
