"""What every experiment needs: the framework, the run directory, and a clean way to stop."""

import dataclasses
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from unrolled import frameworks
from unrolled.errors import NotFiniteError
from unrolled.runs.directory import RunDirectory, check_free
from unrolled.runs.environment import environment
from unrolled.runs.progress import Report, say
from unrolled.training.records import Listener


class Context:
    """The surroundings of one run.

    Args:
        experiment: its name.
        framework: the framework's name.
        seed: of all random draws.
        out: the run directory to make; None takes the next free one under ``runs``.

    Raises:
        RunError: ``out`` cannot be used.

    Attributes:
        status: ``"finished"``, ``"interrupted"`` or ``"diverged"``, once trained.
    """

    def __init__(self, experiment: str, framework: str, seed: int, out: Path | None) -> None:
        self.experiment = experiment
        self.framework = framework
        self.seed = seed
        self.out = out
        if out is not None:
            check_free(out)
        self.status = "finished"
        self.diverged: NotFiniteError | None = None

    @cached_property
    def face(self) -> Any:
        """The framework's public module; loading takes seconds."""
        return frameworks.face(self.framework)

    @cached_property
    def directory(self) -> RunDirectory:
        """The run directory, made when first asked for: ask after all else is checked."""
        if self.out is None:
            return RunDirectory.create_next(Path("runs"), self.experiment)
        return RunDirectory.create(self.out)

    def begin(self, settings: Any) -> None:
        """Make the run directory and write down what is about to run, and where."""
        self.directory.write_json(
            "config.json",
            {
                "experiment": self.experiment,
                "framework": self.framework,
                "seed": self.seed,
                "settings": dataclasses.asdict(settings),
            },
        )
        self.directory.write_json("environment.json", environment(self.face.backend))

    def fit(self, trainer: Any, model: Any, data: Any, report: Report) -> None:
        """Train; end cleanly on Ctrl-C or divergence, and keep the model in any case."""
        listeners: list[Listener] = [self.directory.log(report.fields), report]
        trainer.listeners.extend(listeners)
        with self.directory, report, _stop_on_interrupt(trainer):
            try:
                trainer.fit(model, data)
            except NotFiniteError as error:
                self.status, self.diverged = "diverged", error
        if trainer.stopping:
            self.status = "interrupted"
        self.directory.save_model(trainer.trained_model.export_parameters())

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, say where everything is, and how it ended.

        Raises:
            NotFiniteError: the training diverged.
            KeyboardInterrupt: it was interrupted.
        """
        head = {"experiment": self.experiment, "framework": self.framework, "seed": self.seed}
        self.directory.write_json("summary.json", {**head, "status": self.status, **summary})
        say(f"\nrun kept in {self.directory.path}")
        if self.diverged is not None:
            raise self.diverged
        if self.status == "interrupted":
            raise KeyboardInterrupt


@contextmanager
def _stop_on_interrupt(trainer: Any) -> Iterator[None]:
    """Ctrl-C ends the training after the running minibatch; a second one at once."""

    def stop(signum: int, frame: Any) -> None:
        trainer.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread: whoever owns that handles Ctrl-C
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
