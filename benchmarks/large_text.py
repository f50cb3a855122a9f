"""Train on a text that is larger than memory: speed of encoding, memory and steps per second.

``python benchmarks/large_text.py --gigabytes 10``. A text of several files is made up: lines of
*The Time Machine* in random order, with lines of other alphabets between them. Each figure comes
from a process of its own: one encodes the text; one each trains at the start, in the middle and at
the end of an epoch, in sequential and in random order, or measures the held-out part; one trains
the same model on *The Time Machine*. "memory" is the most that a process had resident
(``VmHWM``) beyond that last one. It needs room for twice the text in ``TMPDIR`` or
``/var/tmp``, and removes what it has made.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from unrolled.data.text import time_machine, time_machine_path
from unrolled.data.text_cache import vocabulary_and_ids
from unrolled.data.text_files import TextFiles

FOREIGN = ("Ein Übermaß an Größe\n", "naïve façade\n", "привет, мир\n", "时间机器\n")
FILES = 7
BLOCK = 16 * 2**20  # bytes that are shuffled once and written again and again
MEASURED = 1_000_000  # characters of the held-out part


def make_up(folder: Path, size: int) -> None:
    """Write a text of about so many bytes into several files."""
    rng = random.Random(0)
    lines = [line + "\n" for line in time_machine().splitlines()]
    for number in range(FILES):
        chosen = rng.choices([*lines, *FOREIGN * 20], k=BLOCK // 50)
        data = "".join(chosen).encode()
        with (folder / f"{number}.txt").open("wb") as file:
            for _ in range(max(1, size // FILES // len(data))):
                file.write(data)


def peak_bytes() -> int:
    """The most memory that this process has had resident at any time."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def encoding(path: str) -> dict[str, Any]:
    """Encode the text into the cache."""
    before, started, busy = peak_bytes(), time.perf_counter(), time.process_time()
    text = TextFiles(path)
    vocab, ids = vocabulary_and_ids(text)
    return {
        "characters": len(ids),
        "kinds": len(vocab),
        "mb_per_s": text.size / (time.perf_counter() - started) / 1e6,
        "busy_mb_per_s": text.size / (time.process_time() - busy) / 1e6,
        "memory_mb": (peak_bytes() - before) / 1e6,
    }


def training(path: str, order: str, place: float, steps: int) -> dict[str, Any]:
    """Train from a place of an epoch on: 0 is its start, 1 its end."""
    from unrolled import torch as unrolled

    model = unrolled.LanguageModel(160, 256, lr=0.1)
    trainer = unrolled.Trainer(1, gradient_clip_val=1)
    started = time.perf_counter()
    data = unrolled.TextData(TextFiles(path), 32, 35, order == "random", seed=0)
    loader = data.train_dataloader()
    trainer.prepare(model, data)
    count = len(loader)
    first = int(place * max(0, count - 1 - steps))
    batches, state = loader.minibatches(0, first), None
    trainer.fit_batch(next(batches), None)
    ready = time.perf_counter()
    taken = 0
    for batch in islice(batches, steps):
        _, state = trainer.fit_batch(batch, state)
        state = state if loader.continues else None
        taken += 1
    ended = time.perf_counter()
    for _ in islice(loader.minibatches(0, first), 20_000):  # reading alone
        pass
    return {
        "minibatches": count,
        "first": first,
        "steps": taken,
        "first_step_s": ready - started,
        "steps_per_s": taken / (ended - ready),
        "peak": peak_bytes(),
    }


def heldout(path: str) -> dict[str, Any]:
    """Measure a part of the held-out tenth."""
    from unrolled import torch as unrolled
    from unrolled.training.evaluation import mean_cross_entropy

    data = unrolled.TextData(TextFiles(path), 32, 35, seed=0)
    model = unrolled.LanguageModel(160, 256)
    ids, started = data.heldout_ids[:MEASURED], time.perf_counter()
    mean_cross_entropy(unrolled.backend, model, ids, 32, 35)
    return {
        "characters_per_s": len(ids) / (time.perf_counter() - started),
        "peak": peak_bytes(),
    }


def measure(what: str, *arguments: Any) -> dict[str, Any]:
    """The outcome of a function of this file in a process of its own."""
    command = [sys.executable, __file__, "--inside", what, *map(str, arguments)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
    return found


def inside(what: str, path: str, *rest: str) -> dict[str, Any]:
    if what == "training":
        return training(path, rest[0], float(rest[1]), int(rest[2]))
    return {"encoding": encoding, "heldout": heldout}[what](path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(inside(*arguments.inside)))
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        os.environ["UNROLLED_CACHE"] = f"{folder}/cache"
        texts = Path(folder, "texts")
        texts.mkdir()
        make_up(texts, int(arguments.gigabytes * 1e9))
        size = sum(file.stat().st_size for file in texts.iterdir())
        found = measure("encoding", texts)
        print(
            f"{size / 1e9:.2f} GB in {FILES} files, {found['characters']:,} characters of ", end=""
        )
        print(f"{found['kinds']} kinds: encoded at {found['mb_per_s']:.0f} MB/s ", end="")
        print(f"({found['busy_mb_per_s']:.0f} of work), memory {found['memory_mb']:.0f} MB")
        for order in ("sequential", "random"):
            base = measure("training", time_machine_path(), order, 0, arguments.steps)
            for name, place in (("start", 0), ("middle", 0.5), ("end", 1)):
                found = measure("training", texts, order, place, arguments.steps)
                grown = (found["peak"] - base["peak"]) / 1e6
                print(f"{order:<11}{name:<7}minibatch {found['first']:>10,}: ", end="")
                print(f"first step after {found['first_step_s']:.1f} s, ", end="")
                print(f"{found['steps_per_s']:.0f} steps/s ({base['steps_per_s']:.0f} on ", end="")
                print(f"The Time Machine), memory {grown:.0f} MB")
        base, found = measure("heldout", time_machine_path()), measure("heldout", texts)
        grown = (found["peak"] - base["peak"]) / 1e6
        print(f"held out: {found['characters_per_s']:,.0f} characters/s, memory {grown:.0f} MB")


if __name__ == "__main__":
    main()
