"""The digit-sum experiments over several seeds: accuracy, and the explosion and its end.

Runs are kept under ``runs/lab`` and not repeated if they are there already. Three seeds at
seven lengths take three quarters of an hour on one free core; ``--lengths`` takes fewer.
One thread is faster than several for models of this size: ``OMP_NUM_THREADS=1``.
"""

import argparse
import statistics
from pathlib import Path

from reproduce import summary

from unrolled.data.digit_sum import LENGTHS


def accuracy(cells: list[str], lengths: list[int], seeds: range, folder: Path, sets: list[str]):
    """Accuracy of every cell at every length, and the means over the seeds."""
    kinds = ("dev_accuracy", "test_accuracy", "last_dev_accuracy", "last_test_accuracy")
    print(f"\n{'':<14}{'best on validation':<42}after the last epoch")
    for length in lengths:
        for cell in cells:
            found = []
            for seed in seeds:
                out = folder / f"{cell}-{length}-seed-{seed}"
                sets_ = (f"cells={cell}", f"lengths={length}", *sets)
                found += summary("digit-sum", seed, out, *sets_)["accuracy"].values()
            parts = []
            for kind in kinds:
                values = [each[kind] for each in found]
                mean = statistics.mean(values)
                parts.append(f"{' '.join(f'{v:.2f}' for v in values)} = {mean:.3f}")
            print(f"{cell + '-' + str(length):<14}" + "  ".join(parts), flush=True)


def explosion(seeds: range, folder: Path) -> None:
    """Peak and end of the gradient over the seeds."""
    head = f"{'dead from':<11}{'bursts':<8}{'saturated':<11}{'median W, clipped':<19}test"
    print(f"\nseed  part       first W     peak W at step  {head}")
    for seed in seeds:
        out = folder / f"explosion-seed-{seed}"
        for part, found in summary("gradient-explosion", seed, out)["parts"].items():
            W, share = found["W"], found["saturated_when_dead"]
            print(
                f"{seed:<6}{part:<11}{W['first']:<12.3g}{W['peak']:<10.3g}{W['peak_step']:<6}"
                f"{found['dead_step'] or 'lives':<11}{found['bursts']:<8}"
                f"{f'{share:.3f}' if share else '':<11}"
                f"{W['median']:<9.3g} {W['clipped_median']:<9.3g}{found['test_accuracy']:.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="+", default=["srn", "lstm"])
    parser.add_argument("--lengths", nargs="*", type=int, default=list(LENGTHS[1:]))
    parser.add_argument("--seeds", type=int, default=3, help="of the accuracy")
    parser.add_argument("--explosions", type=int, default=5, help="seeds of the explosion")
    parser.add_argument("--set", nargs="*", default=[], help="other settings of digit-sum")
    parser.add_argument("--folder", type=Path, default=Path("runs/lab"))
    given = parser.parse_args()
    explosion(range(given.explosions), given.folder)
    accuracy(given.cells, given.lengths, range(given.seeds), given.folder, given.set)


if __name__ == "__main__":
    main()
