"""What telemetry costs: training with it on every step, beside training without it.

Whole training steps of the from-scratch RNN (forward, backward, clipping at norm 1, SGD),
float32, on the published minibatches of *The Time Machine*. The competitors take turns in
one process, an epoch each; the first round warms up. Of each round the ratio to the same
round without telemetry is taken, so that a machine that slows down slows both.

- ``without``: no telemetry; the measure of the others
- ``off``: telemetry with ``every=0``
- ``every 10th``, ``every step``: so many steps from one record to the next
- ``every step, no records``: every step is traced, but nothing is measured: the engine's share
"""

import argparse
import json
import statistics
import time
from typing import Any

from unrolled.data.text import clean, time_machine
from unrolled.frameworks import FRAMEWORKS, load
from unrolled.kernels import ENGINES
from unrolled.telemetry.recorder import Telemetry
from unrolled.training.records import Listener

BATCH_SIZE, NUM_STEPS = 32, 35
ALLOWED = 1.10
"""Times the training time that telemetry on every step may take."""


class Traced(Listener):
    """Has every step traced and looks at nothing."""

    def on_batch(self, trainer: Any, step: int) -> bool:
        return True


COMPETITORS = {
    "without": list,
    "without, again": list,
    "off": lambda: [Telemetry(0)],
    "every 10th": lambda: [Telemetry(10)],
    "every step": lambda: [Telemetry(1)],
    "every step, no records": lambda: [Traced()],
}


def prepared(
    library: Any,
    cell: str,
    num_hiddens: int,
    data: Any,
    listeners: Any,
    engine: str = "auto",
) -> Any:
    """A trainer that is ready for its first minibatch."""
    model = library.LanguageModel(len(data.vocab), num_hiddens, cell, seed=0, engine=engine)
    trainer = library.Trainer(1, gradient_clip_val=1, listeners=listeners)
    trainer.prepare(model, data)
    library.backend.set_training(trainer.model, True)
    for listener in listeners:
        listener.on_fit_start(trainer)
    return trainer


def epoch(trainer: Any, batches: list[Any]) -> float:
    """Seconds of a step, over all minibatches."""
    state = None
    trainer.backend.synchronize()
    started = time.perf_counter()
    for batch in batches:
        record, state = trainer.fit_batch(batch, state)
        for listener in trainer.listeners:
            listener.on_step(trainer, record)
    trainer.backend.synchronize()
    return (time.perf_counter() - started) / len(batches)


def main() -> None:
    parser = argparse.ArgumentParser(description="What telemetry costs.")
    parser.add_argument("--framework", choices=tuple(FRAMEWORKS), default="torch")
    parser.add_argument("--cell", choices=("rnn", "gru", "lstm"), default="rnn")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--hiddens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30, help="epochs of each competitor")
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    library = load(arguments.framework)
    library.backend.seed(0)
    data = library.TextData(clean(time_machine()), BATCH_SIZE, NUM_STEPS, max_tokens=10000, seed=0)
    what = (library, arguments.cell, arguments.hiddens, data)
    trainers = {
        name: prepared(*what, make(), arguments.engine) for name, make in COMPETITORS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for round_ in range(arguments.rounds + 1):
        batches = list(data.train_dataloader())
        # each begins a round once in a while: what runs first after a pause runs slower
        names = list(trainers)
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            taken = epoch(trainers[name], batches)
            if round_:
                seconds[name].append(taken)
    facts, figures = library.backend.describe(), []
    print(
        f"{FRAMEWORKS[arguments.framework]} {facts['version']}, {facts['threads']} threads, ",
        end="",
    )
    sizes = f"H = {arguments.hiddens}, B = {BATCH_SIZE}, T = {NUM_STEPS}"
    print(f"{arguments.cell}, {sizes}")
    print(f"{'':<26}{'ms a step':>10}{'times the time without':>26}")
    for name, taken in seconds.items():
        ratios = sorted(t / w for t, w in zip(taken, seconds["without"], strict=True))
        median, quarter = statistics.median(ratios), len(ratios) // 4
        spread = ratios[quarter], ratios[-1 - quarter]
        ms = 1000 * statistics.median(taken)
        print(f"{name:<26}{ms:>10.2f}{median:>12.3f}   ({spread[0]:.3f} to {spread[1]:.3f})")
        figures.append({"name": name, "ms_a_step": ms, "ratio": median, "quartiles": spread})
    every = next(figure["ratio"] for figure in figures if figure["name"] == "every step")
    verdict = "within" if every <= ALLOWED else "above"
    print(f"every step: {every:.3f}, {verdict} the {ALLOWED:.2f} allowed")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
