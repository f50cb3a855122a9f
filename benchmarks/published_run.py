"""The published run as a whole, from the command line, beside the textbook program.

500 epochs of the from-scratch RNN (H = 512, B = 32, T = 35, the first 10,000 characters), with
everything around them: starting Python, reading the text, progress, files, the report, a
continuation at the end. The textbook program does what books print, and no more: one-hot
inputs, a step at a time, autograd, the perplexity of each epoch. Whole commands take turns.

    python benchmarks/published_run.py --rounds 3
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EPOCHS = 500


def textbook(epochs: int) -> None:
    """The program of the books."""
    import math

    from unrolled.bench.task import Task
    from unrolled.bench.torch import textbook
    from unrolled.data.batching import SequenceLoader
    from unrolled.data.text import clean, time_machine
    from unrolled.data.vocabulary import Vocab

    text = clean(time_machine())
    ids = Vocab(text).encode(text)[:10_000]
    ready = textbook(Task())
    for epoch in range(epochs):
        loss = ready(list(SequenceLoader(ids, 32, 35, seed=epoch)))()
        if epoch % 10 == 0:
            print(f"epoch {epoch}, perplexity {math.exp(loss):.1f}")


def seconds(command: list[str], folder: str) -> float:
    """Of a whole command, its output thrown away."""
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Let both take turns; print each round and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--textbook", action="store_true", help="run the textbook program only")
    args = parser.parse_args()
    if args.textbook:
        textbook(args.epochs)
        return

    epochs = str(args.epochs)
    program = [sys.executable, str(Path(__file__).resolve()), "--textbook", "--epochs", epochs]
    command = [sys.executable, "-m", "unrolled", "run", "language-model"]
    ratios = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            books = seconds(program, folder)
            ours = seconds([*command, "--set", f"max_epochs={epochs}"], folder)
        ratios.append(ours / books)
        print(
            f"textbook program {books:.1f} s, unrolled {ours:.1f} s: {ratios[-1]:.2f}", flush=True
        )
    print(f"median {statistics.median(ratios):.2f} of the textbook program's time")


if __name__ == "__main__":
    main()
