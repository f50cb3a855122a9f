"""What the throughput benchmarks share: minibatches, turns, and the table of results.

Compared are whole training steps (forward, backward, clipping at norm 1, SGD), float32, on
the published minibatches of *The Time Machine*. All competitors run in one process, in
turn (A B C A B C ...), an epoch each; the first round warms up. Only the ratios to the
first competitor mean something on a shared machine.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from unrolled.data.text import clean, time_machine
from unrolled.frameworks import FRAMEWORKS

BATCH_SIZE, NUM_STEPS = 32, 35

Batches = list[tuple[Any, Any]]
"""The minibatches ``(X, Y)`` of an epoch, ids ``(B, T)`` each."""

Competitor = Callable[[Batches], Callable[[], None]]
"""Makes minibatches ready, outside the clock; returns what trains an epoch on them."""


def by_steps(step: Callable[[Any, Any], None]) -> Competitor:
    """A competitor that takes one minibatch after the other."""

    def ready(batches: Batches) -> Callable[[], None]:
        def epoch() -> None:
            for X, Y in batches:
                step(X, Y)

        return epoch

    return ready


def trained(face: Any, model: Any, data: Any) -> Competitor:
    """The library's own trainer, all its checks and records included."""
    trainer = face.Trainer(1, gradient_clip_val=1)
    trainer.prepare(model, data)
    state = None

    def step(X: Any, Y: Any) -> None:
        nonlocal state
        _, state = trainer.fit_batch((X, Y), state)

    return by_steps(step)


def race(
    title: str, face: Any, competitors: Callable[[int, int, Any], dict[str, Competitor]]
) -> None:
    """The program: time all competitors, print the figures, and keep them if asked to.

    Args:
        title: what the program does, for ``--help``.
        face: the framework's public module.
        competitors: ``(vocab_size, num_hiddens, data) -> competitors by name``; the first
            is what the others are measured by.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--hiddens", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=12, help="epochs of each competitor")
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    backend = face.backend
    backend.seed(0)
    text = clean(time_machine())
    data = face.TextData(text, BATCH_SIZE, NUM_STEPS, max_tokens=10000, seed=0)
    V, facts = len(data.vocab), backend.describe()
    print(f"{FRAMEWORKS[backend.name]} {facts['version']}, {facts['threads']} threads, ", end="")
    print(f"V = {V}, B = {BATCH_SIZE}, T = {NUM_STEPS}; ", end="")
    print("median, and the ratio's spread over the rounds")
    figures = []
    for H in arguments.hiddens:
        entrants = competitors(V, H, data)
        seconds: dict[str, list[float]] = {name: [] for name in entrants}
        for round_ in range(arguments.rounds + 1):
            batches = list(data.train_dataloader())
            for name, ready in entrants.items():
                epoch = ready(batches)
                backend.synchronize()
                started = time.perf_counter()
                epoch()
                backend.synchronize()
                if round_:
                    seconds[name].append((time.perf_counter() - started) / len(batches))
        first, base = next(iter(seconds.items()))
        print(f"\n{f'H = {H}':<26}{'thousand tokens/s':>18}{f'times the {first}':>34}")
        for name, taken in seconds.items():
            speed = BATCH_SIZE * NUM_STEPS / statistics.median(taken) / 1000
            ratios = sorted(b / t for b, t in zip(base, taken, strict=True))
            ratio = statistics.median(ratios)
            print(f"{name:<26}{speed:>18.1f}{ratio:>16.2f}   ({ratios[0]:.2f} to {ratios[-1]:.2f})")
            figures.append({"H": H, "name": name, "ktokens_per_s": speed, "ratio": ratio})
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(figures, file, indent=2)
