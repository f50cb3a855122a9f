"""`Context` of a running experiment: its framework, run directory, progress and Ctrl-C."""

import dataclasses
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unrolled import frameworks
from unrolled.checkpoints.schedule import Schedule
from unrolled.errors import (
    NotFiniteError,
    ResumeError,
    RunError,
    TerminatedError,
    UnrolledError,
)
from unrolled.experiments.resuming import Logs, Resumption
from unrolled.models.weights import Values, with_prefix
from unrolled.output import LOST, output_lost
from unrolled.report import trackers
from unrolled.runs.claiming import check_free
from unrolled.runs.directory import RunDirectory
from unrolled.runs.ending import resumable
from unrolled.runs.followed import FollowedRun
from unrolled.runs.lines import EpochLog
from unrolled.runs.progress import Part, TrainingProgress, say, shown
from unrolled.telemetry.reading import TELEMETRY
from unrolled.telemetry.recorder import Sink, Telemetry, to_lines
from unrolled.training.checkpointing import Checkpointing
from unrolled.training.data_parallel import DataParallel
from unrolled.training.preparation import about_data
from unrolled.training.records import Listener

CHECKPOINT, LEAST_S = "every=1min", 60.0
"""Default schedule of checkpoints, and seconds under which a training leaves none."""


class Context:
    """The surroundings of one run; arguments as of `unrolled.experiments.run`.

    Attributes:
        status: ``"finished"``, ``"interrupted"`` or ``"diverged"``, once trained.
    """

    def __init__(
        self,
        experiment: str,
        framework: str,
        seed: int,
        out: Path | None,
        log: tuple[str, ...] = (),
        checkpoint: str | None = None,
        resumption: Resumption | None = None,
        data_parallel: DataParallel | None = None,
    ) -> None:
        self.data_parallel = data_parallel or DataParallel()
        self.experiment = experiment
        self.framework = framework
        self.seed = seed
        self.out = out
        self.log = trackers.check(log) if self.data_parallel.rank == 0 else []
        if out is not None and self.data_parallel.rank == 0:
            check_free(out)
        before = {} if resumption is None else resumption.config
        self.checkpoint = checkpoint or str(before.get("checkpoint", CHECKPOINT))
        self.schedule = Schedule.parse(self.checkpoint)
        self.resumption = resumption
        # a layer, or a listener of a reader's own, may draw from these
        random.seed(seed)
        np.random.seed(seed)
        self.status = "finished"
        self.failure: NotFiniteError | RunError | None = None
        self._values: Values = {}
        self._told: list[int] = []

    @cached_property
    def shell(self) -> Any:
        """The framework's public module; loading takes seconds."""
        return frameworks.load(self.framework)

    @property
    def nndl(self) -> Any:
        """The framework's module of `unrolled.nndl`."""
        return frameworks.load(self.framework, "unrolled.nndl")

    @cached_property
    def directory(self) -> RunDirectory:
        """The run directory, made when first asked for: ask after all else is checked."""
        follows = self.data_parallel.rank > 0
        if self.resumption is not None:
            made = self.resumption.directory
        elif follows:
            made = None
        elif self.out is None:
            made = RunDirectory.create_next(Path("runs"), self.experiment)
        else:
            made = RunDirectory.create(self.out)
        path, *_ = self.data_parallel.everyone(str(made and made.path))
        self.data_parallel.how_to_go_on(f"unrolled run --resume {path}")
        return made or FollowedRun(Path(path))

    def used_before(self, name: str) -> Any:
        """Return the value of an open setting when the resumed run began; else None."""
        return None if self.resumption is None else self.resumption.config["used"].get(name)

    def check_same_data(self, data: Any) -> None:
        """Make sure that all processes have the same data, before a run directory is made."""
        if self.data_parallel.processes > 1:
            self.data_parallel.check_same({"data": about_data(data.train_dataloader())})

    def begin(
        self, settings: Any, files: Mapping[str, Any] = {}, used: Mapping[str, Any] = {}
    ) -> None:
        """Make the run directory and write down what is about to run, and where.

        ``used``: what open settings came to; ``files``: what else to write, by name, as JSON.
        """
        config = {
            "experiment": self.experiment,
            "framework": self.framework,
            "seed": self.seed,
            "settings": dataclasses.asdict(settings),
            "used": dict(used),
            "checkpoint": self.checkpoint,
        }
        if self.resumption is not None:
            self.resumption.begin(config, files, self.shell.backend)
            return
        with self.directory.all_or_nothing():
            self.directory.begin(config, self.shell.backend)
            for name, value in files.items():
                self.directory.write_json(name, value)

    def fit(
        self,
        trainer: Any,
        model: Any,
        data: Any,
        report: TrainingProgress,
        part: str | None = None,
        values: Callable[[], Values | None] = lambda: None,
        telemetry_every: int | None = 0,
        sinks: Iterable[Sink] = (),
    ) -> None:
        """Train; end cleanly on Ctrl-C, divergence or a full disk, and keep the model in any case.

        Args:
            trainer, model, data, report: the training, and what shows its progress.
            part: the model's name, where a run trains several, one after the other.
            values: gives the parameters to keep, by name; None: those of the last step.
            telemetry_every: steps from one record to the next; None: about 200 records, 0: none.
            sinks: called with every record, too.
        """
        attached = [make(self.directory.path, fields=report.fields, part=part) for make in self.log]
        listeners: list[Listener] = [
            EpochLog(self.directory.lines, report.fields, part),
            report,
            *attached,
        ]
        if telemetry_every != 0:
            lines = to_lines(self.directory.lines(TELEMETRY), part)
            records = [tracker.record for tracker in attached]
            listeners.append(Telemetry(telemetry_every, [lines, *records, *sinks]))
        listeners.append(Logs(self.directory, self.resumption))
        trainer.listeners.extend(listeners)
        trainer.data_parallel = self.data_parallel
        self.data_parallel.before_exit(report.__exit__)  # a live line hides the cursor
        source = self._with_checkpoints(trainer, part)
        force = self.resumption is not None and self.resumption.force
        with ExitStack() as stack, self.directory, report, _stop_when_told(trainer.stop) as told:
            for tracker in attached:
                stack.callback(tracker.close)
            try:
                trainer.fit(model, data, source, force)
            except ResumeError:
                raise
            except NotFiniteError as error:
                self.status, self.failure = "diverged", error
            except KeyboardInterrupt:  # a second one
                self._say_how_to_go_on()
                raise
            except RunError as error:  # a log cannot be written
                self.status, self.failure = "interrupted", error
                self.data_parallel.leave(str(error))  # the others wait for a step of this process
        if trainer.stopping:
            self.status = "interrupted"
            told = [each for of_one in self.data_parallel.everyone(told) for each in of_one]
        self._told += told
        kept = values() or trainer.bound_model.export_parameters()
        self._values |= kept if part is None else with_prefix(f"{part}.", kept)
        self.directory.save_model(self._values)

    def _with_checkpoints(self, trainer: Any, part: str | None) -> Checkpointing | None:
        """Have a trainer save checkpoints; return what it goes on from, if anything."""

        def checkpoints(schedule: str) -> Checkpointing:
            # of several models each one is kept: the next begins where the one before has ended
            least_s = LEAST_S if part is None else 0
            return Checkpointing(self.directory.path, schedule, part, least_s, say)

        if self.schedule is not None:
            trainer.checkpoint = checkpoints(self.checkpoint)
        if self.resumption is None:
            return None
        return self.resumption.source(checkpoints(CHECKPOINT), trainer)

    def going_through(self, what: str) -> Callable[[Sequence[Part]], Iterator[Part]]:
        """How to go through the parts of something that is done after the training.

        It is shown how far it is, and a signal ends it before the next part: the run is kept.
        """

        def through(parts: Sequence[Part]) -> Iterator[Part]:
            with _stop_when_told(lambda: None) as told:
                for part in shown(what, parts, len(parts)):
                    if told:
                        break
                    yield part
            self._told += told
            if told:
                self.status = "interrupted"

        return through

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, say where everything is, and how it ended.

        Raises:
            NotFiniteError: the training diverged.
            RunError: a log, or what it had to say, could not be written; the run is kept.
            KeyboardInterrupt, TerminatedError: a signal ended it.
        """
        if self.resumption is not None:
            with self.directory:  # if there was nothing left to train
                self.resumption.go_on()
        head = {"experiment": self.experiment, "framework": self.framework, "seed": self.seed}
        self.directory.end({**head, "status": self.status, **summary})
        say(f"\nrun kept in {self.directory.path}")
        if self.data_parallel.rank == 0:
            self._write_report()
        if self.status != "finished":
            self._say_how_to_go_on()
        self.data_parallel.leave()  # all have come here, however the training ended
        if self.failure is not None:
            raise self.failure
        if self.status == "interrupted":
            for told in self._told:
                if told != signal.SIGINT:
                    raise TerminatedError(signal.Signals(told))
            raise KeyboardInterrupt
        for lost in LOST:
            if not isinstance(lost, BrokenPipeError):  # its reader has had enough
                raise output_lost(lost, f"; the run is kept in {self.directory.path}")

    def _say_how_to_go_on(self) -> None:
        if resumable(self.directory.path):
            resume = f"unrolled run --resume {self.directory.path}"
            if self.status == "diverged":  # with the same settings it would do so again
                say(f"go on from before that with: {resume} --set lr=NUMBER --force")
            else:
                say(f"go on with: {resume}")

    def _write_report(self) -> None:
        """The run as a page; whatever goes wrong there, the run itself is done and kept."""
        from unrolled.report import write

        path = self.directory.path
        try:
            file = write([path], hurry=True)
        except (OSError, UnrolledError) as error:  # a full disk must not fail a training
            say(f"its report could not be written ({error}); try: unrolled report {path}")
        else:
            say(f"its report, to open in a browser: {file}")


SECOND: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""The signals that stop a training (Ctrl-C, the one before a kill, the one of a terminal that
closes), and what a second one does. It ends the program at once; only SIGHUP does nothing, as one
closing sends it several times."""

if hasattr(signal, "SIGHUP"):  # not on Windows
    SECOND[signal.SIGHUP] = signal.SIG_IGN


@contextmanager
def _stop_when_told(stop_it: Callable[[], None]) -> Iterator[list[int]]:
    """Call ``stop_it`` at the first signal; yield the list of the signals that have come."""
    told: list[int] = []
    heard = {each: at_once for each, at_once in SECOND.items() if not _outlived(each)}

    def stop(signum: int, frame: Any) -> None:
        told.append(signum)
        stop_it()
        for each, at_once in heard.items():
            signal.signal(each, at_once)

    try:
        before = {each: signal.signal(each, stop) for each in heard}
    except ValueError:  # not the main thread: whoever owns that handles signals
        yield told
        return
    try:
        yield told
    finally:
        for each, handler in before.items():
            if each in told and heard[each] is signal.SIG_IGN:
                continue  # what it sends again must not end the program before all is kept
            # None: it was not Python that had set it, so Python cannot set it again
            signal.signal(each, heard[each] if handler is None else handler)


def _outlived(each: signal.Signals) -> bool:
    """Whether the program is to outlive its terminal: nohup has it ignore that this closes."""
    return each.name == "SIGHUP" and signal.getsignal(each) is signal.SIG_IGN
