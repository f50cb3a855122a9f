"""From a text file to its ids: speed and memory of encoding.

``python benchmarks/data.py``. "whole" is all that is between a text file and its ids on disk:
reading, cleaning if asked for, counting for the vocabulary ("count" has these), reading again
and looking up ("encode"), in MB of the file per second. "plain" is the definition in plain
Python, in memory: `collections.Counter`, then a dictionary for one character after the other,
on the text's first 10 MB; rounds of both take turns. "busy" is "whole" by the time that a
processor worked for it, which on a shared machine is less than what the clock shows.

The texts are *The Time Machine* again and again, and the same with typographic quotes, accents,
Cyrillic and Chinese in it; they are written to a temporary folder and taken away again. Every
figure comes from a process of its own, as what a process needed at most is only known for the
whole of it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.data.text import clean_lines, time_machine
from unrolled.data.text_files import TextFiles
from unrolled.data.vocabulary import Vocab, smallest_type

FOREIGN = "Ein Übermaß an Größe — naïve façade, привет мир, 时间机器。\n"
KINDS = ("ascii", "mixed", "cleaned")


def write_text(path: Path, kind: str, size: int) -> None:
    """A text of about so many bytes."""
    text = time_machine()
    if kind == "mixed":
        text = text.replace("'", "\u2019").replace('"', "\u201c") + FOREIGN * 300
    data = text.encode("utf-8")
    with path.open("wb") as file:
        for _ in range(max(1, size // len(data))):
            file.write(data)


def peak_bytes() -> int:
    """The most memory that this process has had at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def encoding(path: str, kind: str) -> dict[str, Any]:
    """Bytes of the file per second, of the clock and of the processor's work (one thread)."""
    size, before = os.path.getsize(path), peak_bytes()
    started, busy = time.perf_counter(), time.process_time()
    source = TextFiles(path, clean=kind == "cleaned")
    vocab = Vocab(source.counts)  # counts now
    counted = time.perf_counter()
    ids = np.concatenate([*map(vocab.encoder(smallest_type(len(vocab))), source)])
    ended = time.perf_counter()
    return {
        "count_mb_per_s": size / (counted - started) / 1e6,
        "encode_mb_per_s": size / (ended - counted) / 1e6,
        "whole_mb_per_s": size / (ended - started) / 1e6,
        "busy_mb_per_s": size / (time.process_time() - busy) / 1e6,
        "type": str(ids.dtype),
        "bytes": size,
        "grown_mb": (peak_bytes() - before) / 1e6,
    }


def plain(path: str, kind: str) -> dict[str, Any]:
    """The same by a loop in Python over the characters of the start of the file."""
    with open(path, "rb") as file:
        data = file.read(10**7)
    started = time.perf_counter()
    text = data.decode("utf-8", "ignore")  # the last character may be cut
    if kind == "cleaned":
        text = "".join(clean_lines(text))
    kinds = sorted(Counter(text).items(), key=lambda item: -item[1])
    ids = {character: i for i, (character, _) in enumerate(kinds, start=1)}
    np.fromiter((ids[character] for character in text), np.uint8, len(text))
    return {"plain_mb_per_s": len(data) / (time.perf_counter() - started) / 1e6}


def measure(what: str, path: Path, kind: str) -> dict[str, Any]:
    """The outcome of a function of this file in a process of its own."""
    command = [sys.executable, __file__, "--inside", what, str(path), kind]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200, help="of the texts to encode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        what, path, kind = arguments.inside
        print(json.dumps({"encoding": encoding, "plain": plain}[what](path, kind)))
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        path = Path(folder) / "text.txt"
        columns = "whole", "count", "encode", "busy", "plain"
        print(f"{'MB/s, median of the rounds':<28}", *(f"{name:>8}" for name in columns), end="")
        print(f"{'(whole, of the rounds)':>24}{'memory grown':>15}")
        for kind in KINDS:
            write_text(path, kind, arguments.megabytes * 10**6)
            rounds = [
                {**measure("encoding", path, kind), **measure("plain", path, kind)}
                for _ in range(arguments.rounds)
            ]
            speeds = {name: [found[f"{name}_mb_per_s"] for found in rounds] for name in columns}
            grown = max(found["grown_mb"] for found in rounds)
            medians = (statistics.median(found) for found in speeds.values())
            print(f"{kind:<28}", *(f"{median:>8.0f}" for median in medians), end="")
            spread = f"({min(speeds['whole']):.0f} to {max(speeds['whole']):.0f})"
            print(f"{spread:>24}{grown:>12.0f} MB")


if __name__ == "__main__":
    main()
