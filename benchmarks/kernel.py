"""Speed of the native kernels alone: forward, backward and weight gradient of each cell.

The share of the limit is that of the recurrent products, 2 T B H^2 G operations each, in what
the machine's matrix product (``torch.mm``) reaches in the same rounds. All take turns as in
``unrolled bench``, on random numbers (zeros are faster).

    python benchmarks/kernel.py --hiddens 512 --cells rnn lstm
"""

import argparse
from collections.abc import Callable

import torch

from unrolled import native
from unrolled.bench.race import Entrant, Race, repeated, run
from unrolled.bench.results import result
from unrolled.bench.tables import text

BATCH_SIZE, NUM_STEPS, VOCABULARY = 32, 35, 28

SECONDS = 10.0
"""Length of all turns of a table."""


def layer(cell: str, H: int, threads: int, precision: str) -> dict[str, Callable[[], None]]:
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
    dW_h = torch.empty(H, G * H)

    def forward() -> None:
        native.forward(cell, W_x, W_h, outputs, ids=ids, biases=biases, **kept, **how)

    def backward() -> None:
        native.backward(cell, W_h, outputs, D, d_outputs=dY, dA=dA, **kept, **how)

    def weights() -> None:
        rows = outputs.view(T * B, H), D.view(T * B, G * H)
        native.product(*rows, dW_h, transpose_a=True, **how)

    passes = {"forward": forward, "backward": backward, "weight gradient": weights}
    for work in passes.values():
        work()  # each reads what the one before wrote
    return passes


def product(H: int) -> Callable[[], object]:
    """The machine's own product, of the shape of one weight gradient."""
    K = BATCH_SIZE * NUM_STEPS
    A, B, C = torch.randn(K, H), torch.randn(H, H), torch.empty(K, H)
    return lambda: torch.mm(A, B, out=C)


def entrant(name: str, work: Callable[[], object], operations: float) -> Entrant:
    """A pass, or the product that all are measured by."""
    is_limit = name == "torch.mm"
    tokens = BATCH_SIZE * NUM_STEPS
    return Entrant(name, name, lambda: repeated(work), tokens, operations, is_limit)


def main() -> None:
    """Time all that is asked for, and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["rnn", "gru", "lstm"])
    parser.add_argument("--hiddens", nargs="+", type=int, default=[256, 512, 1024])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    print(f"{native.available()[1]}, {args.precision}")
    facts = {"B": BATCH_SIZE, "T": NUM_STEPS, "threads": args.threads}
    for cell in args.cells:
        for H in args.hiddens:
            works = layer(cell, H, args.threads, args.precision) | {"torch.mm": product(H)}
            size = 2.0 * BATCH_SIZE * NUM_STEPS * H * H
            gates = {name: 1 if name == "torch.mm" else native.CELLS[cell] for name in works}
            entrants = [entrant(name, work, size * gates[name]) for name, work in works.items()]
            race = Race(f"{cell}, H = {H}", facts, entrants)
            run(race, args.rounds, SECONDS)
            table = result(race)
            assert table is not None
            print("\n" + "\n".join(text(table, 100)))


if __name__ == "__main__":
    main()
