"""Torture checkpoints and exact resume, and print a line for each kind (`make torture`)."""

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

KINDS = {
    "kills": 100,
    "resumes": 0,
    "fields": 0,
    "damage": 1000,
    "surroundings": 0,
    "memory": 0,
    "bad_input": 0,
    "workers": 20,
    "hosts": 0,
}
"""Modules of this folder, and how many cases they have by default; 0: as many as there are."""


def main() -> int:
    """Exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, help="cases of kills, damage, workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one of kills, damage or workers")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas")
    parser.add_argument("--minutes", type=float, default=1, help="of training, for memory")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    from installed import INSTALLED
    from torture.outcome import Options

    failed = False
    for kind in given.only.split(","):
        if kind not in KINDS:
            sys.exit(f"there is no kind {kind}; there are {', '.join(KINDS)}")
        module = importlib.import_module(f"torture.{kind}")
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            options = Options(
                count=KINDS[kind] if given.count is None else given.count,
                seed=given.seed,
                folder=Path(folder),
                frameworks=tuple(INSTALLED),
                case=given.case,
                minutes=given.minutes,
            )
            began = time.monotonic()
            outcome = module.run(options)
        took = f"{time.monotonic() - began:.0f} s"
        verdict = f"{len(outcome.failures)} FAILED" if outcome.failures else "all right"
        print(f"{outcome.kind}: {outcome.figures}: {verdict} ({took})", flush=True)
        for each in outcome.skipped:
            print(f"  not done: {each}", flush=True)
        for each in outcome.failures:
            print(f"  {each}", flush=True)
        if outcome.failures:
            print(f"  to repeat: make torture ONLY={kind} SEED={given.seed} CASE=...", flush=True)
        failed |= bool(outcome.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
