"""What telemetry costs: training with it on every step, beside training without it.

The training steps of ``unrolled bench``, in turns and with its table; the ratios are to the same
round without telemetry, so that a machine that slows down slows both.

- ``without``: no telemetry; the measure of the others
- ``off``: telemetry with ``every=0``
- ``every 10th``, ``every step``: so many steps from one record to the next
- ``every step, no records``: every step is traced, but nothing is measured: the engine's share
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from unrolled.bench import race, threads
from unrolled.bench.competitors import Competitor
from unrolled.bench.ours import trained
from unrolled.bench.plan import entrant_of
from unrolled.bench.results import result
from unrolled.bench.tables import text
from unrolled.bench.task import Task
from unrolled.frameworks import FRAMEWORKS
from unrolled.telemetry.recorder import Telemetry
from unrolled.training.records import Listener

ALLOWED = 1.10
"""Times the training time that telemetry on every step may take."""


class Traced(Listener):
    """Has every step traced and looks at nothing."""

    def on_batch(self, trainer: Any, step: int) -> bool:
        return True


COMPETITORS: dict[str, Callable[[], list[Listener]]] = {
    "without": list,
    "without, again": list,
    "off": lambda: [Telemetry(0)],
    "every 10th": lambda: [Telemetry(10)],
    "every step": lambda: [Telemetry(1)],
    "every step, no records": lambda: [Traced()],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What telemetry costs.")
    parser.add_argument("--framework", choices=tuple(FRAMEWORKS), default="torch")
    parser.add_argument("--cell", choices=("rnn", "gru", "lstm"), default="rnn")
    parser.add_argument("--hiddens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60, help="of all rounds together")
    arguments = parser.parse_args()
    task = Task(arguments.cell, arguments.hiddens, threads=threads.available())
    framework = arguments.framework
    entrants = [
        entrant_of(
            Competitor(
                name, name, "", framework, partial(trained, framework=framework, listeners=make())
            ),
            task,
        )
        for name, make in COMPETITORS.items()
    ]
    title = f"{FRAMEWORKS[framework]}, {task.cell}, H = {task.H}"
    measured = race.Race(title, asdict(task), entrants)
    with threads.fixed(task.threads):
        race.run(measured, arguments.rounds, arguments.seconds)
    table = result(measured)
    assert table is not None
    print("\n".join(text(table, 100)))
    (every,) = (row.ratio.median for row in table.rows if row.name == "every step")
    verdict = "within" if every <= ALLOWED else "above"
    print(f"every step: {every:.3f}, {verdict} the {ALLOWED:.2f} allowed")


if __name__ == "__main__":
    main()
