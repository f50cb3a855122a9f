"""The README's picture, from a run directory: ``python docs/make_picture.py RUN``."""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

VOCABULARY = 28


def main() -> None:
    run = Path(sys.argv[1])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((run / "summary.json").read_text())
    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [line["perplexity"] for line in lines], color="#0072b2", label="training")
    left.axhline(VOCABULARY, color="#777777", ls=":", label=f"guessing among {VOCABULARY}")
    left.set(
        xlabel="epoch", ylabel="perplexity", yscale="log", title="It learns the passage by heart"
    )
    left.set_yticks([1, 2, 5, 10, 28], ["1", "2", "5", "10", "28"])
    left.minorticks_off()
    left.legend(frameon=False)
    before = [line["gradient_norm_max"] for line in lines]
    right.plot(epochs, before, color="#d55e00", lw=0.8, label="largest before clipping")
    right.axhline(1, color="#777777", ls=":", label="clipped at 1")
    right.set(xlabel="epoch", ylabel="global gradient norm", title="Clipping tames its gradients")
    right.set_ylim(bottom=0)
    right.legend(frameon=False, loc="upper left")
    text = max(summary["samples"].values(), key=len)
    figure.supxlabel(
        f"after {epochs[-1]} epochs it writes: “{text}”", fontsize=9, family="monospace"
    )
    figure.savefig(Path(__file__).parent / "images" / "language-model.png", dpi=130)


if __name__ == "__main__":
    main()
