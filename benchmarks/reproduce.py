"""The published language-model runs over three seeds: ``make reproduce``.

Prints each final perplexity beside the published one. Runs are kept under
``runs/reproduce`` and not repeated if they are there already.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from unrolled import experiments

SEEDS = (0, 1, 2)
PUBLISHED = {
    "from scratch, sequential (H = 512)": ((), "about 1.0"),
    "from scratch, random sampling (H = 512)": (("use_random_iter=true",), "about 1.3 to 1.5"),
    "the framework's layer (H = 256)": (("scratch=false",), "about 1.3"),
}


def summary(name: str, seed: int, out: Path, *assignments: str) -> Any:
    """The result of a run, made if it is not there."""
    if not (out / "summary.json").exists():
        print(f"== {out}")
        experiments.run(name, assignments, seed=seed, out=out)
    return json.loads((out / "summary.json").read_text())


def main() -> None:
    rows = []
    for number, (title, (assignments, published)) in enumerate(PUBLISHED.items()):
        found = []
        for seed in SEEDS:
            out = Path("runs/reproduce") / f"{number}-seed-{seed}"
            found.append(summary("language-model", seed, out, *assignments)["perplexity"])
        rows.append((title, found, published))
    print(f"\n{'perplexity after 500 epochs':<42}{'seeds 0, 1, 2':<22}{'median':<9}published")
    for title, found, published in rows:
        each = "  ".join(f"{value:.3f}" for value in found)
        print(f"{title:<42}{each:<22}{statistics.median(found):<9.3f}{published}")


if __name__ == "__main__":
    main()
